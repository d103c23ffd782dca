#!/bin/sh
# MLX 0.32.4: mx.random.truncated_normal far from the middle.
#
# What one would think: between 6 and 7 a normal distribution falls from its highest to a thousandth of it, so nearly all numbers lie
# near 6, as SciPy's truncnorm gives them, and none is the upper bound.
# What happens: the bounds go through erf in float32, which is 1 from 5.4 standard deviations on, and what comes back is cut to the
# bounds. Beyond that every number is exactly the bound farther from the middle, the least likely one, on either side; from five to
# six there are eleven different numbers. Nothing is said.
# Output seen:
#   between -1 and 1: mean 0.001, SciPy's 0.000; 99700 different values
#   between 3 and 4: mean 3.261, SciPy's 3.260; 39586 different values
#   between 5 and 6: mean 5.193, SciPy's 5.183; 11 different values
#   between 6 and 7: mean 7.000, SciPy's 6.157; 1 different values
#   between -7 and -6: mean -7.000, SciPy's -6.157; 1 different values
# What to do: for tails, draw the normal numbers otherwise, as by rejection from an exponential, or with NumPy or SciPy in float64.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env" > /dev/null
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check 'mlx[cpu]==0.32.4' 'numpy<3' scipy==1.16.3 2> /dev/null
"$folder/env/bin/python" - <<'EOF'
import sys

import mlx.core as mx
import numpy as np
from scipy.stats import truncnorm

mx.set_default_device(mx.cpu)
means = {}
for low, high in ((-1, 1), (3, 4), (5, 6), (6, 7), (-7, -6)):
    drawn = mx.random.truncated_normal(mx.array(float(low)), mx.array(float(high)), (100_000,), key=mx.random.key(4))
    values = np.array(drawn)
    means[low] = float(values.mean())
    print(
        f"between {low} and {high}: mean {values.mean():.3f}, SciPy's {truncnorm.mean(low, high):.3f}; "
        f"{len(np.unique(values))} different values"
    )
sys.exit(0 if means[6] == 7.0 and abs(means[3] - truncnorm.mean(3, 4)) < 0.02 else 1)
EOF
