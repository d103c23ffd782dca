#!/bin/sh
# MLX 0.32.4: mx.compile(f, shapeless=True) of a function of additions and multiplications by numbers.
#
# What one would think: "shapeless" only saves tracing anew when a shape changes; the elementwise operations of f become one
# kernel just as without it, for a number has the same shape in either case.
# What happens: without shapes every operation with a number gets two broadcasts, one for each side, which count as operations where
# MLX limits how deep and how large a fused kernel may be. So a long function is cut into more kernels, up to twice as many, and each cut
# writes and reads the whole array once more. Nothing tells; the results are the same.
# Output seen (kernels of a chain of n times x * 1.5 + 0.25):
#   n = 2: 1 with shapes, 1 shapeless
#   n = 6: 2 with shapes, 2 shapeless
#   n = 12: 3 with shapes, 4 shapeless
#   a polynomial of 6 terms, doubled four times: 2 with shapes, 4 shapeless
# What to do: compile long elementwise functions with shapes, where these are few (a streaming model has one or two); keep
# shapeless for short ones.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env" > /dev/null
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check 'mlx[cpu]==0.32.4' 2> /dev/null
cd "$folder"
"$folder/env/bin/python" - <<'EOF'
import re
import sys
from pathlib import Path

import mlx.core as mx

mx.set_default_device(mx.cpu)


def kernels(function, **how):
    """Count the fused kernels in the graph of a compiled function."""
    made = mx.compile(function, **how)(mx.ones((8,)))
    mx.export_to_dot("graph.dot", made)
    return len(re.findall(r'label ="Compiled', Path("graph.dot").read_text()))


def chain(times):
    def function(x):
        for _ in range(times):
            x = x * 1.5 + 0.25
        return x

    return function


def polynomial(x):
    total = 0.1
    for term in (0.2, 0.3, 0.4, 0.5, 0.6, 0.7):
        total = total * x + term
    for _ in range(4):
        total = total * (total + 2.0)
    return total


both = {f"n = {times}": chain(times) for times in (2, 6, 12)} | {"a polynomial of 6 terms, doubled four times": polynomial}
counts = {name: (kernels(one), kernels(one, shapeless=True)) for name, one in both.items()}
for name, (shaped, shapeless) in counts.items():
    print(f"{name}: {shaped} with shapes, {shapeless} shapeless")
sys.exit(list(counts.values())[2:] != [(3, 4), (2, 4)])
EOF
