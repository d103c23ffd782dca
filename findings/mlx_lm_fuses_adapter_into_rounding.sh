#!/bin/sh
# mlx-lm 0.32.2, MLX 0.32.4: LoRALinear.fuse() on a quantized layer (what `mlx_lm.fuse` does without --dequantize).
#
# What one would think: the fused layer says what layer and adapter said together, up to the quantization that the base has anyway.
# What happens: the sum of base and adapter is quantized anew, in the same bits. The steps of a 4-bit group are coarser than
# what a usual adapter adds, so what comes out is mostly new rounding: the change against the base has next to nothing to do
# with what was learned (cosine .04 to .1 where an adapter moves the output by .2 to 3 %), and it is larger than that. Even in
# 8 bits an adapter of .2 % drowns. dequantize=True keeps it whole, at the price of a dense layer.
# Output seen:
#   4 bits: adapter moves the output by 0.9 %; fused is off by 398 % of that, cosine 0.04; dequantized by 0.0 %
#   4 bits: adapter moves the output by 2.7 %; fused is off by 153 % of that, cosine 0.10; dequantized by 0.0 %
#   8 bits: adapter moves the output by 0.2 %; fused is off by 151 % of that, cosine 0.13; dequantized by 0.0 %
# What to do: keep the adapter beside a quantized base, or fuse into the dense weights the base came from and quantize then
# (where what is learned meets rounding once, not twice), and compare answers before and after.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env" > /dev/null
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check 'mlx[cpu]==0.32.4' 'mlx-lm==0.32.2' 2> /dev/null
"$folder/env/bin/python" - <<'EOF'
import sys

import mlx.core as mx
from mlx import nn
from mlx_lm.tuner.lora import LoRALinear

mx.set_default_device(mx.cpu)
mx.random.seed(0)
dense = nn.Linear(1024, 1024, bias=False)
dense.weight = 0.02 * mx.random.normal((1024, 1024))
heard = mx.random.normal((64, 1024))


def norm(array):
    return mx.linalg.norm(array).item()


seen = []
for bits, size in ((4, 0.1), (4, 0.3), (8, 0.02)):
    base = nn.QuantizedLinear.from_linear(dense, group_size=64, bits=bits)
    layer = LoRALinear.from_base(base, r=8, scale=1.0)
    layer.lora_a = mx.random.normal(layer.lora_a.shape) / 32
    layer.lora_b = mx.random.normal(layer.lora_b.shape) * 0.02 * size
    learned = layer(heard) - base(heard)
    fused = layer.fuse()(heard) - base(heard)
    whole = layer.fuse(dequantize=True)(heard) - base(heard)
    off, kept = norm(fused - learned) / norm(learned), norm(whole - learned) / norm(learned)
    cosine = (mx.sum(fused * learned) / norm(fused) / norm(learned)).item()
    print(
        f"{bits} bits: adapter moves the output by {100 * norm(learned) / norm(base(heard)):.1f} %; fused is off by "
        f"{100 * off:.0f} % of that, cosine {cosine:.2f}; dequantized by {100 * kept:.1f} %"
    )
    seen.append(off > 1 and cosine < 0.3 and kept < 0.01)
sys.exit(not all(seen))
EOF
