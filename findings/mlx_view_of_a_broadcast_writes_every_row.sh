#!/bin/sh
# MLX 0.32.4 with NumPy 2.3.5: np.asarray of what mx.broadcast_to, mx.expand_dims and the like have made.
#
# What one would think: NumPy gets rows of its own, or, as from np.broadcast_to, an array that refuses to be written.
# What happens: it gets a view with a stride of 0 that says it may be written. One element written is written in every row, in the
# MLX array as well, and in the array that was broadcast. np.array copies, and is safe.
# Output seen on 2026-12-01:
#   np.asarray of MLX: strides (0, 4), writable True
#   one element written: [[7.0, 2.0], [7.0, 2.0], [7.0, 2.0]]
#   what was broadcast: [7.0, 2.0]
#   np.broadcast_to: strides (0, 4), writable False
# What to do: np.array(x), or mx.contiguous(x) before np.asarray, wherever NumPy writes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env" > /dev/null
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check 'mlx[cpu]==0.32.4' numpy==2.3.5 2> /dev/null
"$folder/env/bin/python" - <<'EOF'
import sys

import mlx.core as mx
import numpy as np

mx.set_default_device(mx.cpu)
row = mx.array([1.0, 2.0])
rows = mx.broadcast_to(row, (3, 2))
mx.eval(rows)
view = np.asarray(rows)
print(f"np.asarray of MLX: strides {view.strides}, writable {view.flags.writeable}")
view[0, 0] = 7
print(f"one element written: {rows.tolist()}")
print(f"what was broadcast: {row.tolist()}")
theirs = np.broadcast_to(np.array([1.0, 2.0], np.float32), (3, 2))
print(f"np.broadcast_to: strides {theirs.strides}, writable {theirs.flags.writeable}")
sys.exit(not (view.strides == theirs.strides and view.flags.writeable and rows.tolist() == [[7.0, 2.0]] * 3))
EOF
