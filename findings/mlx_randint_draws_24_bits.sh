#!/bin/sh
# MLX 0.32.4: mx.random.randint over a range of more than 2^24 numbers.
#
# What one would think: every number of the range can come, as with NumPy's integers, and half of them are odd.
# What happens: a number is a float32 between the bounds, cut to an integer, and a float32 has 24 bits. Of the upper half of 0 to 2^30
# only multiples of 64 come, of a range of 2^40 no odd number at all. Nothing is said. A seed drawn that way for somebody else's
# generator, a sample's number in a long recording, or a hash taken of it modulo a power of two are all but constant.
# Output seen:
#   below 2^20: 0.4996 odd, NumPy 0.4984
#   below 2^26: 0.1230 odd, NumPy 0.4973; the upper half: multiples of 4
#   below 2^30: 0.0066 odd, NumPy 0.4996; the upper half: multiples of 64
#   below 2^40: 0.0000 odd, NumPy 0.4997; the upper half: multiples of 65536
# What to do: draw two numbers below 2^16 and put them together.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env" > /dev/null
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check 'mlx[cpu]==0.32.4' 'numpy<3' 2> /dev/null
"$folder/env/bin/python" - <<'EOF'
import sys

import mlx.core as mx
import numpy as np

mx.set_default_device(mx.cpu)
found = []
for bits in (20, 26, 30, 40):
    drawn = np.array(mx.random.randint(0, 2**bits, (100_000,), dtype=mx.int64, key=mx.random.key(1)))
    theirs = np.random.default_rng(1).integers(0, 2**bits, 100_000)
    step = int(np.gcd.reduce(drawn[drawn >= 2 ** (bits - 1)]))
    tail = f"; the upper half: multiples of {step}" if step > 1 else ""
    print(f"below 2^{bits}: {(drawn & 1).mean():.4f} odd, NumPy {(theirs & 1).mean():.4f}{tail}")
    found.append(step)
sys.exit(0 if found == [1, 4, 64, 65536] else 1)
EOF
