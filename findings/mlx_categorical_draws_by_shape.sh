#!/bin/sh
# MLX 0.32.4: random.categorical with one key, for logits of shape (n,) and the same logits as (1, n).
#
# What one would think: one key and the same numbers give the same draw. random.uniform, normal, gumbel and randint do: they
# fill (n,) and (1, n) with the same numbers. And that a draw is the argmax of logits plus random.gumbel, as it was before.
# What happens: logits of one dimension are drawn as argmax(logits + gumbel), logits of two dimensions in another way. The
# draws agree as often as chance makes them, so a model sampled with a batch axis says something else than without one, and
# a seed that was noted with an older version, or with [0] in another place, does not bring its text back.
# Output seen:
#   of 500 draws from 50 logits, each with a key of its own:
#   gumbel of (50,) and of (1, 50) give the same draw 500 times
#   categorical of (50,) draws what argmax(logits + gumbel) does 500 times, categorical of (1, 50) 20 times
# What to do: where draws must be repeatable, write argmax(logits + mx.random.gumbel(shape, key=key)) oneself.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env" > /dev/null
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check 'mlx[cpu]==0.32.4' 2> /dev/null
"$folder/env/bin/python" - <<'EOF'
import sys

import mlx.core as mx

mx.set_default_device(mx.cpu)
logits = mx.random.normal((50,), key=mx.random.key(1))
keys = [mx.random.key(seed) for seed in range(500)]
noise = [mx.argmax(logits + mx.random.gumbel((50,), key=key)).item() for key in keys]
noise_of_rows = [mx.argmax(logits[None] + mx.random.gumbel((1, 50), key=key), axis=-1).item() for key in keys]
flat = [mx.random.categorical(logits, key=key).item() for key in keys]
row = [mx.random.categorical(logits[None], key=key).item() for key in keys]


def same(first, second):
    return sum(a == b for a, b in zip(first, second))


print("of 500 draws from 50 logits, each with a key of its own:")
print(f"gumbel of (50,) and of (1, 50) give the same draw {same(noise, noise_of_rows)} times")
print(
    f"categorical of (50,) draws what argmax(logits + gumbel) does {same(flat, noise)} times, "
    f"categorical of (1, 50) {same(row, noise)} times"
)
sys.exit(not (same(noise, noise_of_rows) == same(flat, noise) == 500 and same(row, noise) < 100))
EOF
