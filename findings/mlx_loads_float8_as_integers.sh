#!/bin/sh
# MLX 0.32.4: mx.load of safetensors in 8-bit floating point, and in float64, which MLX has.
#
# What one would think: a type that MLX has no numbers for is refused by name; one that it has is read.
# What happens: F8_E4M3 and F8_E8M0 come back as uint8, the bit patterns as integers, without a word: a weight of 1.0 is 56, of
# -1.0 is 184, so a float8 checkpoint loads and computes nonsense. F8_E5M2 beside it is refused, and so is F64, though
# mx.float64 exists on the CPU. (The bits are wanted by mxfp8, which is why they are let through.)
# Output seen:
#   F8_E4M3 of [1, 2, 0.5, -1] loads as uint8 [56, 64, 48, 184], by mx.from_fp8 [1.0, 2.0, 0.5, -1.0]
#   F8_E5M2: [safetensor] unsupported dtype F8_E5M2
#   F64: [safetensor] unsupported dtype F64
# What to do: read the header before mx.load and decide by the type written there; mx.from_fp8 turns F8_E4M3 into numbers.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env" > /dev/null
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check 'mlx[cpu]==0.32.4' 2> /dev/null
cd "$folder"
"$folder/env/bin/python" - <<'EOF'
import json
import struct
import sys

import mlx.core as mx


def loaded(kind, data, count):
    header = json.dumps({"w": {"dtype": kind, "shape": [count], "data_offsets": [0, len(data)]}}).encode()
    header += b" " * (-len(header) % 8)
    with open("one.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(header)) + header + data)
    try:
        weight = mx.load("one.safetensors")["w"]
        mx.eval(weight)  # read now: the file is written anew
        return weight
    except RuntimeError as error:
        return str(error)


e4m3 = loaded("F8_E4M3", bytes([0x38, 0x40, 0x30, 0xB8]), 4)
e5m2 = loaded("F8_E5M2", bytes([0x3C, 0x40, 0x38, 0xBC]), 4)
double = loaded("F64", struct.pack("<d", 1.1), 1)
numbers = mx.from_fp8(e4m3, dtype=mx.float32).tolist() if isinstance(e4m3, mx.array) else None
print(f"F8_E4M3 of [1, 2, 0.5, -1] loads as {str(e4m3.dtype).split('.')[-1]} {e4m3.tolist()}, by mx.from_fp8 {numbers}")
print(f"F8_E5M2: {e5m2}")
print(f"F64: {double}")
sys.exit(not (e4m3.tolist() == [56, 64, 48, 184] and "unsupported" in str(e5m2) and "unsupported" in str(double)))
EOF
