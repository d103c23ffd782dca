#!/bin/sh
# MLX 0.32.4: arange on a CPU.
#
# What one would think: element i is start + i * step, rounded once, as NumPy's is, and as the documentation's half-open range reads.
# What happens: the step is added to the element before, in the type of the result, so every element carries the roundings of
# all before it. A time axis in float32 is 0.67 s off after 100 s at 10 kHz; in bfloat16 whole numbers stand still at 256, in
# float16 at 2048, where the types themselves can hold larger ones.
# Output seen:
#   arange(0, 100, 0.0001), float32: 1000000 elements, the last 99.3272, and should be 99.9999
#   arange(600) in bfloat16 ends with 256, arange(600).astype(bfloat16) with 600
#   arange(5000) in float16 ends with 2048, arange(5000).astype(float16) with 5000
#   arange(2**24 + 8) in float32 ends with 16777216, in int32 with 16777223
# What to do: make ranges of int32, then astype and multiply: mx.arange(n).astype(mx.float32) * step + start.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env" > /dev/null
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check 'mlx[cpu]==0.32.4' 2> /dev/null
"$folder/env/bin/python" - <<'EOF'
import sys

import mlx.core as mx

mx.set_default_device(mx.cpu)
axis = mx.arange(0, 100, 0.0001)
last = axis[-1].item()
print(f"arange(0, 100, 0.0001), float32: {axis.size} elements, the last {last:.6g}, and should be 99.9999")
differs = [abs(last - 99.9999) > 0.1]
for size, dtype, name in ((600, mx.bfloat16, "bfloat16"), (5000, mx.float16, "float16")):
    direct, whole = mx.arange(size, dtype=dtype)[-1].item(), mx.arange(size).astype(dtype)[-1].item()
    print(f"arange({size}) in {name} ends with {direct:.0f}, arange({size}).astype({name}) with {whole:.0f}")
    differs.append(direct != whole)
real, integer = mx.arange(2**24 + 8, dtype=mx.float32)[-1].item(), mx.arange(2**24 + 8)[-1].item()
print(f"arange(2**24 + 8) in float32 ends with {real:.0f}, in int32 with {integer}")
sys.exit(0 if all(differs) else 1)
EOF
