#!/bin/sh
# MLX 0.32.4: mx.grad of x ** 0.0.
#
# What one would think: x ** 0.0 is 1 everywhere, so its gradient is 0, at x = 0 as well; PyTorch 2.13 says so. x ** 1.0 has the gradient 1.
# What happens: at 0 the gradient of x ** 0.0 is NaN: n times x ** (n - 1) is 0 times infinity. One such weight is enough for a gradient's
# norm, and so a whole update, to be NaN. Other exponents are right.
# Output seen on 2026-12-01:
#   x ** 0.0 at 0, 1, 2: 1.0 1.0 1.0 gradient nan 0.0 0.0
#   x ** 1.0 at 0, 1, 2: 0.0 1.0 2.0 gradient 1.0 1.0 1.0
#   x ** 2.0 at 0, 1, 2: 0.0 1.0 4.0 gradient 0.0 2.0 4.0
# What to do: where an exponent may be 0 (a focal loss without focus, a schedule, a gamma that is learned), leave the power out
# there, or add something small to the base.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env" > /dev/null
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check 'mlx[cpu]==0.32.4' 2> /dev/null
"$folder/env/bin/python" - <<'EOF'
import math
import sys

import mlx.core as mx

mx.set_default_device(mx.cpu)
x, found = mx.array([0.0, 1.0, 2.0]), {}
for exponent in (0.0, 1.0, 2.0):
    values = (x**exponent).tolist()
    found[exponent] = mx.grad(lambda x, exponent=exponent: (x**exponent).sum())(x).tolist()
    shown = " ".join("nan" if math.isnan(value) else str(value) for value in found[exponent])
    print(f"x ** {exponent} at 0, 1, 2:", *values, "gradient", shown)
sys.exit(not (math.isnan(found[0.0][0]) and found[1.0] == [1, 1, 1] and found[2.0] == [0, 2, 4]))
EOF
