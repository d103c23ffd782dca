#!/bin/sh
# MLX 0.32.4: mx.checkpoint of a function that draws random numbers, such as nn.Dropout.
#
# What one would think: checkpointing saves memory and changes no gradient: what is computed again on the way back is what was
# computed before, as in PyTorch, which keeps the state of its generator for that.
# What happens: it is computed again with other random numbers. The loss is that of one dropout mask, the gradient goes through
# another one, and the numbers that come after it differ from those of a run without checkpointing.
# Output seen on 2026-12-01:
#   plain: 30 of 64 values count in the loss, 30 in the gradient, 30 in both
#   checkpointed: 30 of 64 values count in the loss, 33 in the gradient, 17 in both
#   mask as an argument: 30 of 64 values count in the loss, 30 in the gradient, 30 in both
# What to do: no dropout inside of mx.checkpoint. Draw the mask outside and give it to the function: arguments are kept. (A key
# as an argument does not do: "[Primitive::vjp] Not implemented for RandomBits".)
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env" > /dev/null
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check 'mlx[cpu]==0.32.4' 2> /dev/null
"$folder/env/bin/python" - <<'EOF'
import sys

import mlx.core as mx
import mlx.nn as nn

mx.set_default_device(mx.cpu)
dropout = nn.Dropout(0.5)


def masks(function):
    """Which of 64 values count in the loss, and in its gradient."""
    mx.random.seed(1)

    def loss(values):
        out = function(values)
        return out.sum(), out

    (_, out), gradient = mx.value_and_grad(loss)(mx.ones(64))
    return out > 0, gradient > 0


def masked(values):
    mask = mx.random.bernoulli(0.5, values.shape)
    return mx.checkpoint(lambda values, mask: 2 * values * mask)(values, mask)


same = {}
for name, function in (
    ("plain", dropout),
    ("checkpointed", mx.checkpoint(lambda values: dropout(values))),
    ("mask as an argument", masked),
):
    forward, backward = masks(function)
    same[name] = mx.array_equal(forward, backward).item()
    both = (forward & backward).sum().item()
    print(
        f"{name}: {forward.sum().item()} of 64 values count in the loss, {backward.sum().item()} in the gradient, "
        f"{both} in both"
    )
sys.exit(same != {"plain": True, "checkpointed": False, "mask as an argument": True})
EOF
