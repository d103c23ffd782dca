#!/bin/sh
# MLX 0.32.4: fast.scaled_dot_product_attention where a query may attend to no key at all.
#
# What one would think: such a row is zero, or NaN in every form of mask, so that it is seen; not that hidden values show.
# What happens: with a boolean mask that is False everywhere, and with mask="causal" and more queries than keys (the first
# queries stand before the first key), the row is the plain mean of all values, the hidden ones. With an additive mask of
# -inf the same row is NaN. So a padded row of a batch quietly hears the others' keys, and a row of a short
# context hears its own future; nothing warns.
# Output seen:
#   boolean mask, all False: differs from the mean of all hidden values by 0.00
#   causal, 6 queries and 4 keys: the first query gives the mean of all 4 values, 0.00 off
#   additive mask of -inf: NaN
# What to do: give each row of a batch a key that it may see (its own), or put zeros in the rows' place with mx.where.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env" > /dev/null
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check 'mlx[cpu]==0.32.4' 2> /dev/null
"$folder/env/bin/python" - <<'EOF'
import sys

import mlx.core as mx

mx.set_default_device(mx.cpu)
queries, keys, values = (mx.random.normal((1, 1, n, 16), key=mx.random.key(n + i)) for i, n in enumerate((6, 4, 4)))
mean = values.mean(axis=2)[0, 0]


def first_row(queries, mask):
    return mx.fast.scaled_dot_product_attention(queries, keys, values, scale=0.25, mask=mask)[0, 0, 0]


hidden = mx.abs(first_row(queries[:, :, :1], mx.zeros((1, 4), mx.bool_)) - mean).max().item()
causal = mx.abs(first_row(queries, "causal") - mean).max().item()
added = mx.isnan(first_row(queries[:, :, :1], mx.full((1, 4), -mx.inf))).all().item()
print(f"boolean mask, all False: differs from the mean of all hidden values by {hidden:.2f}")
print(f"causal, 6 queries and 4 keys: the first query gives the mean of all 4 values, {causal:.2f} off")
print("additive mask of -inf:", "NaN" if added else "no NaN")
sys.exit(not (hidden < 1e-5 and causal < 1e-5 and added))
EOF
