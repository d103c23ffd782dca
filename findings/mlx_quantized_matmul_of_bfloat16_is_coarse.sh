#!/bin/sh
# MLX 0.32.4 on the CPU: quantized_matmul with activations of bfloat16 or float16.
#
# What one would think: it rounds about as much as the product with the same weights dequantized, as on a GPU.
# What happens: it adds up in the type of the activations, where the dense product adds up in float32. At 4,096 columns and 8
# bits the affine modes are 7 % off (norm of the error by norm of the result), the dense bfloat16 product .2 %; float16 is 1 %
# off. More bits do not help, and the error grows with the width. The scale of mxfp8 is taken per block: 1.5 %.
# Output seen:
#   affine 8 bits: bfloat16 7.3 %, float16 0.9 %, float32 0.0 %; dense bfloat16 0.2 %
#   affine 4 bits: bfloat16 7.1 %, float16 0.9 %, float32 0.0 %; dense bfloat16 0.2 %
#   mxfp8 8 bits: bfloat16 1.5 %, float16 0.2 %, float32 0.0 %; dense bfloat16 0.2 %
# What to do: on a CPU give it float32 activations. Do not judge a quantized model by a bfloat16 run on a CPU.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env" > /dev/null
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check 'mlx[cpu]==0.32.4' 2> /dev/null
"$folder/env/bin/python" - <<'EOF'
import sys

import mlx.core as mx

mx.set_default_device(mx.cpu)
weight = 0.02 * mx.random.normal((4096, 4096), key=mx.random.key(0))
row = mx.random.normal((1, 4096), key=mx.random.key(1)).astype(mx.bfloat16).astype(mx.float32)


def percent(got, exact):
    return (100 * mx.linalg.norm(got.astype(mx.float32) - exact) / mx.linalg.norm(exact)).item()


seen = []
for mode, bits, group in (("affine", 8, 64), ("affine", 4, 64), ("mxfp8", 8, 32)):
    how = {"mode": mode, "bits": bits, "group_size": group}
    packed = mx.quantize(weight, **how)
    if mode == "affine":  # scales and biases that bfloat16 and float32 can both hold
        packed = [packed[0], *(part.astype(mx.bfloat16).astype(mx.float32) for part in packed[1:])]
    dense = mx.dequantize(*packed, **how, dtype=mx.float32)
    exact = row @ dense.T

    def product(dtype):
        scales = [part.astype(dtype) if part.dtype == mx.float32 else part for part in packed]
        return percent(mx.quantized_matmul(row.astype(dtype), *scales, transpose=True, **how), exact)

    coarse, half, single = product(mx.bfloat16), product(mx.float16), product(mx.float32)
    plain = percent(row.astype(mx.bfloat16) @ dense.astype(mx.bfloat16).T, exact)
    print(f"{mode} {bits} bits: bfloat16 {coarse:.1f} %, float16 {half:.1f} %, float32 {single:.1f} %; dense bfloat16 {plain:.1f} %")
    seen.append(coarse > 3 * plain and single < 0.1)
sys.exit(not all(seen))
EOF
