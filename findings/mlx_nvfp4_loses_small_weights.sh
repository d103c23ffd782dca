#!/bin/sh
# MLX 0.32.4: nvfp4 of weights that are small, beside mxfp4 and affine 4 bits.
#
# What one would think: a format with a scale for each group of weights has the same relative error whatever their size, as
# mxfp4 and affine quantization have.
# What happens: a scale of nvfp4 is an E4M3 number, the least of which is 2**-9, and `quantize` uses it alone unless a global
# scale is given. A scale is the largest weight of its group over 6, so weights of 0.002 fall below it: nearly all become
# zero, without a word. Some layers of trained speech models are that small.
# Output seen (root mean square of the error over that of the weights):
#   weights of 1.0: mxfp4 0.115, affine 0.081, nvfp4 0.095
#   weights of 0.02: mxfp4 0.118, affine 0.081, nvfp4 0.103
#   weights of 0.002: mxfp4 0.116, affine 0.081, nvfp4 0.957
# What to do: look at the error of every layer after quantizing, give nvfp4 a global scale where the version takes one, or
# take mxfp4, whose scales are powers of two down to 2**-127.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env" > /dev/null
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check 'mlx[cpu]==0.32.4' 2> /dev/null
status=0
"$folder/env/bin/python" - > "$folder/seen" <<'EOF' || status=1
import sys

import mlx.core as mx

mx.set_default_device(mx.cpu)
KINDS = {"mxfp4": {"mode": "mxfp4"}, "affine": {"bits": 4, "group_size": 32}, "nvfp4": {"mode": "nvfp4"}}
found = {}
for size in (1.0, 0.02, 0.002):
    weights = size * mx.random.normal((256, 1024), key=mx.random.key(1))
    for kind, how in KINDS.items():
        again = mx.dequantize(*mx.quantize(weights, **how), **how).astype(mx.float32)
        error = mx.sqrt(mx.mean(mx.square(again - weights)) / mx.mean(mx.square(weights)))
        found[size, kind] = error.item()
    print(f"weights of {size}: " + ", ".join(f"{kind} {found[size, kind]:.3f}" for kind in KINDS))
steady = all(abs(found[0.002, kind] - found[1.0, kind]) < 0.01 for kind in ("mxfp4", "affine"))
sys.exit(not (steady and found[0.002, "nvfp4"] > 0.9 and found[1.0, "nvfp4"] < 0.12))
EOF
cat "$folder/seen"
exit $status
