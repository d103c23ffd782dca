#!/bin/sh
# MLX 0.32.4: optimizers.Adam and AdamW of parameters in bfloat16.
#
# What one would think: the mean of squared gradients forgets, so that a single large gradient, the first of a training or of
# a bad batch, slows a parameter down for some thousand steps (betas[1] = 0.999) and no longer.
# What happens: the state has the parameter's type. In bfloat16 0.999 times a number is rounded back to that number, so the mean
# can grow and hardly ever fall: after one gradient of 100 every later step is divided by the same root for ever, where in float32 the
# mean has fallen to a 150th after 5000 steps. Nothing warns; the training only gets slow.
# Output seen:
#   the mean of squares after a gradient of 100 and 5000 of 0.01: 10.000 in bfloat16, 0.067 in float32
#   how far the parameter went in the last 1000 of these steps: 9.7 times as far in float32
# What to do: train in float32 (adapters are small), or keep float32 parameters and give the model a copy in bfloat16.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env" > /dev/null
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check 'mlx[cpu]==0.32.4' 2> /dev/null
"$folder/env/bin/python" - <<'EOF'
import sys

import mlx.core as mx
import mlx.optimizers as optim

mx.set_default_device(mx.cpu)


def trained(kind):
    """The mean of squares after 5000 small gradients, and the way of the last 1000 of them, added up in float32."""
    parameters = {"w": mx.zeros((1,), kind)}
    optimizer = optim.Adam(learning_rate=1e-3)
    optimizer.init(parameters)
    way = 0.0
    for step in range(5001):
        gradient = mx.array([100.0 if step == 0 else 0.01], kind)
        moved = optimizer.apply_gradients({"w": gradient}, {"w": mx.zeros((1,), kind)})
        mx.eval(moved, optimizer.state)
        way += abs(moved["w"].item()) if step > 4000 else 0.0
    return optimizer.state["w"]["v"].item(), way


(coarse, short), (fine, long) = trained(mx.bfloat16), trained(mx.float32)
print(f"the mean of squares after a gradient of 100 and 5000 of 0.01: {coarse:.3f} in bfloat16, {fine:.3f} in float32")
print(f"how far the parameter went in the last 1000 of these steps: {long / short:.1f} times as far in float32")
sys.exit(not (coarse > 9 and fine < 0.1))
EOF
