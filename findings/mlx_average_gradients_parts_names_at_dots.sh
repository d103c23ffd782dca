#!/bin/sh
# MLX 0.32.4, `mlx.nn.average_gradients`: a dict of gradients whose names have dots in them, in two processes.
#
# What one would think: a dict with the names that were given comes back, as it does from a process that is alone.
# What happens: a dot is taken for a branch of the tree, and a number behind it for a place in a list: "layers.0.weight" comes
# back as {"layers": [{"weight": …}]}. A program that was tried with one process fails with two, or updates nothing.
# Output seen on 2026-11-29:
#   of 1 processes: ['layers.0.weight', 'layers.1.weight']
#   of 2 processes: ['layers']
# What to do: give it a list of arrays, and put the names to what comes back.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env" > /dev/null
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check 'mlx[cpu]==0.32.4' 2> /dev/null
cat > "$folder/one.py" <<'EOF'
import mlx.core as mx
from mlx.nn import average_gradients

group = mx.distributed.init()
made = average_gradients({"layers.0.weight": mx.ones(2), "layers.1.weight": mx.ones(3)}, group)
mx.eval(made)
if group.rank() == 0:
    print(f"of {group.size()} processes: {sorted(made)}")
EOF
"$folder/env/bin/python" "$folder/one.py" > "$folder/seen"
"$folder/env/bin/mlx.launch" -n 2 "$folder/env/bin/python" "$folder/one.py" < /dev/null 2> /dev/null >> "$folder/seen"
cat "$folder/seen"
grep -q "^of 1 processes: \['layers.0.weight', 'layers.1.weight'\]$" "$folder/seen" &&
    grep -q "^of 2 processes: \['layers'\]$" "$folder/seen"
