#!/bin/sh
# MLX 0.32.4: mx.to_fp8, of what is not a number, on the CPU.
#
# What one would think: E4M3 has a NaN, so NaN stays NaN, as in PyTorch's float8_e4m3fn, and only what is too large becomes 448.
# What happens: NaN becomes 448, the largest number, as infinity and everything too large do. Weights, gradients or a cache that
# went wrong come back as large finite numbers, and whatever looks for NaN afterwards finds none.
# Output seen:
#   nan -> 448.0, inf -> 448.0, 500.0 -> 448.0, 1.0 -> 1.0
# What to do: look for NaN before the conversion (mx.isnan), not after it.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env" > /dev/null
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check 'mlx[cpu]==0.32.4' 2> /dev/null
"$folder/env/bin/python" - <<'EOF'
import sys

import mlx.core as mx

mx.set_default_device(mx.cpu)
given = [float("nan"), float("inf"), 500.0, 1.0]
found = mx.from_fp8(mx.to_fp8(mx.array(given)), mx.float32).tolist()
print(", ".join(f"{before} -> {after}" for before, after in zip(given, found, strict=True)))
sys.exit(found != [448.0, 448.0, 448.0, 1.0])
EOF
