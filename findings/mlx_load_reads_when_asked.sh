#!/bin/sh
# MLX 0.32.4: mx.load of safetensors, then the file is written anew in its place, then the arrays are used.
#
# What one would think: mx.load has read the weights when it returns, as safetensors' own loaders and numpy.load have.
# What happens: an array keeps the open file and its place in it, and reads when it is first computed. If another has written the
# file in the meantime, the array holds whatever lies at that place now: other values, or those of another tensor, since
# the order in a file may change. Shape and type are the old ones, and nothing is raised as long as the file is long enough.
# Output seen:
#   saved a = 1, b = 2; loaded; saved a = 7, b = 8 in the same file
#   the arrays that were loaded first: a = 8, b = 7
# What to do: mx.eval the dictionary after mx.load, and write beside the file, then rename: the open file stays as it was.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env" > /dev/null
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check 'mlx[cpu]==0.32.4' 2> /dev/null
cd "$folder"
"$folder/env/bin/python" - <<'EOF'
import sys

import mlx.core as mx

mx.set_default_device(mx.cpu)
mx.save_safetensors("one.safetensors", {"b": mx.full((4,), 2.0), "a": mx.full((4,), 1.0)})
loaded = mx.load("one.safetensors")
mx.save_safetensors("one.safetensors", {"a": mx.full((4,), 7.0), "b": mx.full((4,), 8.0)})
a, b = loaded["a"][0].item(), loaded["b"][0].item()
print("saved a = 1, b = 2; loaded; saved a = 7, b = 8 in the same file")
print(f"the arrays that were loaded first: a = {a:.0f}, b = {b:.0f}")
sys.exit((a, b) == (1, 2))
EOF
