#!/bin/sh
# MLX 0.32.4: nn.losses.cross_entropy(..., weights=..., reduction="mean") with targets that weigh nothing.
#
# What one would think: the mean is over what counts, as PyTorch's weighted mean and any masked loss is: targets of
# weight 0, which fill up short rows of a batch, change neither the loss nor its gradient.
# What happens: the weighted losses are divided by the number of all targets, those of weight 0 included. So a batch that is
# padded to four times its length gives a quarter of the loss and a quarter of the gradient; the learning rate depends on
# how much padding a batch happens to have, and reported losses of two data sets cannot be compared. Nothing warns.
# Output seen:
#   4 targets, 12 of padding: loss 0.88, over what counts 3.51; its gradient is 0.25 times as large
# What to do: reduction="sum" and divide by the sum of the weights.
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
logits = mx.random.normal((16, 10), key=mx.random.key(1))
targets = mx.arange(16) % 10
weights = (mx.arange(16) < 4).astype(mx.float32)


def mean(logits):
    return nn.losses.cross_entropy(logits, targets, weights=weights, reduction="mean")


def over_what_counts(logits):
    return nn.losses.cross_entropy(logits, targets, weights=weights, reduction="sum") / weights.sum()


slopes = [mx.linalg.norm(mx.grad(loss)(logits)).item() for loss in (mean, over_what_counts)]
ratio = slopes[0] / slopes[1]
print(
    f"4 targets, 12 of padding: loss {mean(logits).item():.2f}, over what counts {over_what_counts(logits).item():.2f}; "
    f"its gradient is {ratio:.2f} times as large"
)
sys.exit(not abs(ratio - 0.25) < 1e-4)
EOF
