#!/bin/sh
# MLX 0.32.4: mx.mean of float16 arrays whose mean is small.
#
# What one would think: the mean of numbers that float16 holds is held by float16 too; numpy and PyTorch add float16 in float32
# and round the result once.
# What happens: the mean is made as a sum, in the array's own type, times 1/n. The sum passes 65504 and is infinite long before the mean
# is large: at width 4096, a mean of squares of 16 is enough, so a root mean square written by hand is infinite and a norm by it is
# zero everywhere, without a word. Whole numbers are promoted before they are added; float16 is not. (bfloat16 has float32's range
# and only rounds.) mx.fast.rms_norm adds in float32 and is right.
# Output seen:
#   mean of 70000 ones: MLX inf, numpy 1.0
#   4096 times 4.5, root of the mean square: MLX inf, numpy 4.5
#   normed by hand: 0.0; by mx.fast.rms_norm: 1.0
# What to do: astype(mx.float32) before the mean of float16, or use the functions of mx.fast.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env" > /dev/null
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check 'mlx[cpu]==0.32.4' numpy 2> /dev/null
"$folder/env/bin/python" - <<'EOF'
import math
import sys

import mlx.core as mx
import numpy as np

mx.set_default_device(mx.cpu)
ones, width = np.ones(70_000, np.float16), np.full(4096, 4.5, np.float16)
x = mx.array(width)
mean = mx.mean(mx.array(ones)).item()
root = mx.sqrt(mx.mean(x * x)).item()
by_hand = (x * mx.rsqrt(mx.mean(x * x)))[0].item()
fast = mx.fast.rms_norm(x, mx.ones(4096, dtype=mx.float16), 1e-5)[0].item()
print(f"mean of 70000 ones: MLX {mean}, numpy {np.mean(ones)}")
print(f"4096 times 4.5, root of the mean square: MLX {root}, numpy {np.sqrt(np.mean(width * width))}")
print(f"normed by hand: {by_hand}; by mx.fast.rms_norm: {fast:.1f}")
sys.exit(not (math.isinf(mean) and math.isinf(root) and by_hand == 0 and abs(fast - 1) < 1e-2))
EOF
