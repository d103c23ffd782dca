#!/bin/sh
# mlx-lm 0.32.2: make_sampler(temp, top_p).
#
# What one would think: the temperature comes first and top_p keeps the likeliest tokens of what it makes of the logits, as in
# transformers, vLLM and Kyutai's sampler. Then a high temperature lets more tokens in, and a low one fewer.
# What happens: top_p is counted on the logits as they are, at temperature 1, and the temperature shapes what is left. So the
# same two numbers draw from other tokens than elsewhere: at 2.0 far fewer, at 0.5 more.
# Output seen on 2026-12-01:
#   probabilities 0.5, 0.2, 0.12, 0.08, 0.05, 0.03, 0.02; top_p 0.8
#   temperature 0.5: the likeliest 2 have 0.8, drawn are 3
#   temperature 1.0: the likeliest 3 have 0.8, drawn are 3
#   temperature 2.0: the likeliest 5 have 0.8, drawn are 3
# What to do: settings of another runtime do not carry over. For its order, divide the log probabilities by the temperature and
# normalize them oneself, and give make_sampler(temp=1.0, top_p=...) the result.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env" > /dev/null
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check 'mlx[cpu]==0.32.4' 'mlx-lm==0.32.2' 2> /dev/null
"$folder/env/bin/python" - <<'EOF'
import sys

import mlx.core as mx
import numpy as np
from mlx_lm.sample_utils import make_sampler

mx.set_default_device(mx.cpu)
mx.random.seed(0)
probabilities, top_p = np.array([0.5, 0.2, 0.12, 0.08, 0.05, 0.03, 0.02]), 0.8
rows = mx.broadcast_to(mx.log(mx.array(probabilities)), (20_000, len(probabilities)))
print("probabilities", ", ".join(map(str, probabilities)) + f"; top_p {top_p}")
found = []
for temperature in (0.5, 1.0, 2.0):
    tempered = probabilities ** (1 / temperature)
    nucleus = int((np.cumsum(tempered / tempered.sum()) < top_p).sum()) + 1
    drawn = len(set(make_sampler(temp=temperature, top_p=top_p)(rows).tolist()))
    print(f"temperature {temperature}: the likeliest {nucleus} have {top_p}, drawn are {drawn}")
    found.append((nucleus, drawn))
sys.exit(found != [(2, 3), (3, 3), (5, 3)])
EOF
