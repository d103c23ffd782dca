#!/bin/sh
# MLX 0.32.4: mlx.optimizers.Lion, by way of mx.sign.
#
# What one would think: a gradient that is NaN makes weights NaN, as with Adam, so the loss says at the
# next step that something went wrong. The sign of NaN is NaN, as NumPy has it.
# What happens: mx.sign of NaN is 0. Lion's average of the gradients becomes NaN and stays so, its sign is 0, and the weight never
# moves again, or only by its decay, though later gradients are fine. No weight is NaN, and the loss looks like one that has stopped falling.
# Output seen on 2026-12-01:
#   mx.sign(nan) 0.0, np.sign(nan) nan
#   Lion: [0.9, 1.9] [0.9, 1.8] [0.9, 1.7] [0.9, 1.6]
#   Adam: [0.7, 1.7] [nan, 1.3] [nan, 0.8] [nan, 0.2]
# What to do: look at gradients, or at their norm, before an update, and leave the step out where that is not finite; the state
# of Lion is to be thrown away, too, where one came through.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env" > /dev/null
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check 'mlx[cpu]==0.32.4' numpy==2.3.5 2> /dev/null
"$folder/env/bin/python" - <<'EOF'
import math
import sys

import mlx.core as mx
import numpy as np
from mlx.optimizers import Adam, Lion

mx.set_default_device(mx.cpu)
nan = math.nan
print(f"mx.sign(nan) {mx.sign(mx.array(nan)).item()}, np.sign(nan) {np.sign(nan)}")
found = {}
for kind in (Lion, Adam):
    weights, optimizer, seen = {"w": mx.array([1.0, 2.0])}, kind(learning_rate=0.1), []
    for gradient in ([1.0, 1.0], [nan, 1.0], [1.0, 1.0], [1.0, 1.0]):
        weights = optimizer.apply_gradients({"w": mx.array(gradient)}, weights)
        seen.append([round(value, 1) for value in weights["w"].tolist()])
    print(f"{kind.__name__}:", *seen)
    found[kind] = [value[0] for value in seen]
sys.exit(not (found[Lion] == [0.9] * 4 and all(map(math.isnan, found[Adam][1:]))))
EOF
