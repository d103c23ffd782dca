#!/bin/sh
# mlx-lm 0.32.2: make_sampler(xtc_probability, xtc_threshold) on a batch.
#
# What one would think: xtc_probability is the chance of every token that is drawn. A sampler takes [rows, vocabulary], so in a
# batch every row has a draw of its own, as it has for its token.
# What happens: one draw for the whole batch. In half of the steps no row, in the other half every row loses its likeliest
# tokens, so talks that run side by side are surprising together, and a mean over rows is no mean over chances.
# Output seen on 2026-12-01:
#   probabilities 0.45, 0.4, 0.15; threshold 0.1, probability 0.5; 4000 rows at once, 40 times
#   share of the rows that drew the last token: 0.15 in 25 calls, 1.00 in 15, anything else in 0
# What to do: sample row by row where XTC is on, or take the mean over many calls.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env" > /dev/null
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check 'mlx[cpu]==0.32.4' 'mlx-lm==0.32.2' 2> /dev/null
"$folder/env/bin/python" - <<'EOF'
import sys

import mlx.core as mx
from mlx_lm.sample_utils import make_sampler

mx.set_default_device(mx.cpu)
mx.random.seed(0)
rows = mx.broadcast_to(mx.log(mx.array([0.45, 0.4, 0.15])), (4000, 3))
sampler = make_sampler(temp=1.0, xtc_probability=0.5, xtc_threshold=0.1)
shares = [mx.mean(sampler(rows) == 2).item() for _ in range(40)]
plain, excluded = sum(abs(share - 0.15) < 0.03 for share in shares), sum(share == 1 for share in shares)
print("probabilities 0.45, 0.4, 0.15; threshold 0.1, probability 0.5; 4000 rows at once, 40 times")
print(
    f"share of the rows that drew the last token: 0.15 in {plain} calls, 1.00 in {excluded}, "
    f"anything else in {40 - plain - excluded}"
)
sys.exit(not (plain + excluded == 40 and 5 < excluded < 35))
EOF
