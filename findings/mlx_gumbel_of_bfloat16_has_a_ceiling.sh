#!/bin/sh
# MLX 0.32.4: mx.random.gumbel in bfloat16 and float16.
#
# What one would think: Gumbel noise has no upper end, so the largest of logits + noise is a draw from their softmax, in any type; the
# type of the logits, as a model in bfloat16 gives them, is the natural one to ask for.
# What happens: the uniform number that it is made from is rounded to the type first, so that nothing above 0.996 (bfloat16) or
# 0.9995 (float16) comes: the noise ends at 5.53 or 7.62. Tokens that are rare one by one, but have half of the probability
# together, are not drawn: of 2048 tokens, of which one has that half and the others share the rest evenly, the one always wins.
# Output seen (the first of 2048 tokens has half of the probability; 20,000 draws):
#   bfloat16: largest of a million 5.53, 533 different values; the first token is drawn in 100.0 % of the cases
#   float16: largest of a million 7.62, 4162 different values; the first token is drawn in 69.6 % of the cases
#   float32: largest of a million 14.15, 978563 different values; the first token is drawn in 50.1 % of the cases
#   mx.random.categorical of bfloat16 logits: 50.3 %
# What to do: draw the noise in float32 and add it to float32 logits, or mx.random.categorical, which does.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env" > /dev/null
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check 'mlx[cpu]==0.32.4' 'numpy<3' 2> /dev/null
"$folder/env/bin/python" - <<'EOF'
import math
import sys

import mlx.core as mx
import numpy as np

mx.set_default_device(mx.cpu)
TOKENS, DRAWS = 2048, 20_000
logits = np.zeros(TOKENS, np.float32)
logits[0] = math.log(TOKENS - 1)
shares, largest = {}, {}
for kind in (mx.bfloat16, mx.float16, mx.float32):
    name = str(kind).removeprefix("mlx.core.")
    noise = np.array(mx.random.gumbel((1_000_000,), dtype=kind, key=mx.random.key(3)).astype(mx.float32))
    rows = [mx.random.gumbel((DRAWS // 20, TOKENS), dtype=kind, key=mx.random.key(seed)) for seed in range(20)]
    first = [(mx.argmax(mx.array(logits).astype(kind) + row, axis=-1) == 0).mean().item() for row in rows]
    shares[name], largest[name] = float(np.mean(first)), float(noise.max())
    print(
        f"{name}: largest of a million {noise.max():.2f}, {len(np.unique(noise))} different values; "
        f"the first token is drawn in {100 * shares[name]:.1f} % of the cases"
    )
drawn = mx.random.categorical(mx.array(logits).astype(mx.bfloat16)[None], num_samples=DRAWS, key=mx.random.key(4))
print(f"mx.random.categorical of bfloat16 logits: {100 * (drawn == 0).mean().item():.1f} %")
sys.exit(0 if largest["bfloat16"] < 6 and largest["float32"] > 12 and abs(shares["bfloat16"] - 0.5) > 0.05 else 1)
EOF
