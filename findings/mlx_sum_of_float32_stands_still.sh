#!/bin/sh
# MLX 0.32.4: sum and mean of large float32 arrays on a CPU.
#
# What one would think: the mean of ones is 1, however many they are. NumPy adds pairwise, and so do reductions on a GPU, more
# or less.
# What happens: a reduction over all elements adds them one after the other in a single float32. Once the sum is 2^24 times as
# large as what is added, it no longer grows, and well before that it is inexact. A matrix of 4096 by 8192, of which a 7B model has
# several, is past that point: norms of weights and gradients, and mean losses over all positions, come out too small.
# Output seen:
#   2^25 ones: mean 0.5, row by row 1, NumPy's 1
#   2^26 squares of normal numbers, sum by the true one: 0.817226, row by row 0.999998, NumPy's 1.000000
# What to do: reduce by rows first, mx.sum(mx.sum(x, axis=-1)): rows of some thousand lose nothing.
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
ones = mx.ones((4096, 8192))
whole, rows = mx.mean(ones).item(), mx.mean(mx.mean(ones, axis=-1)).item()
print(f"2^25 ones: mean {whole:.6g}, row by row {rows:.6g}, NumPy's {np.mean(np.ones((4096, 8192), np.float32)):.6g}")
squares = np.square(np.random.default_rng(0).standard_normal((8192, 8192), np.float32))
true, given = np.sum(squares, dtype=np.float64), mx.array(squares)
shares = [mx.sum(given).item() / true, mx.sum(mx.sum(given, axis=-1)).item() / true, np.sum(squares) / true]
print(
    f"2^26 squares of normal numbers, sum by the true one: {shares[0]:.6f}, row by row {shares[1]:.6f}, "
    f"NumPy's {shares[2]:.6f}"
)
sys.exit(0 if whole == 0.5 and rows == 1 and abs(shares[0] - 1) > 1e-3 > abs(shares[1] - 1) else 1)
EOF
