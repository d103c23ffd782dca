#!/bin/sh
# MLX 0.32.4: cumsum and cumprod of int8, uint8, int16 and uint16.
#
# What one would think: the last element of cumsum is the sum. mx.sum and mx.prod of small integers count in 32 bits, as NumPy's
# sum and cumsum do in 64, and cumsum of booleans counts in 32 bits, too.
# What happens: cumsum and cumprod of small integers keep the type and wrap around without a word. A mask that is kept as uint8
# counts up to 255 and goes on from 0, the same mask as booleans does not.
# Output seen:
#   300 ones as bool:   sum 300 (int32), cumsum ends with 300 (int32), NumPy's with 300
#   300 ones as uint8:  sum 300 (uint32), cumsum ends with 44 (uint8), NumPy's with 300
#   300 ones as int8:   sum 300 (int32), cumsum ends with 44 (int8), NumPy's with 300
#   300 200s as uint16: sum 60000 (uint32), cumsum ends with 60000 (uint16), NumPy's with 60000
#   300 200s as int16:  sum 60000 (int32), cumsum ends with -5536 (int16), NumPy's with 60000
# What to do: astype(mx.int32) before cumsum or cumprod of anything that counts.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env" > /dev/null
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check 'mlx[cpu]==0.32.4' 'numpy<3' 2> /dev/null
"$folder/env/bin/python" - <<'EOF'
import sys

import mlx.core as mx
import numpy as np

mx.set_default_device(mx.cpu)
differ = []
for value, name in ((1, "bool"), (1, "uint8"), (1, "int8"), (200, "uint16"), (200, "int16")):
    theirs = np.full(300, value, name)
    ours = mx.array(theirs)
    total, running = mx.sum(ours), mx.cumsum(ours)
    last = running[-1].item()
    types = [str(array.dtype).removeprefix("mlx.core.") for array in (total, running)]
    print(
        f"300 {'ones' if value == 1 else '200s'} as {name + ':':7} sum {total.item()} ({types[0]}), "
        f"cumsum ends with {last} ({types[1]}), NumPy's with {np.cumsum(theirs)[-1]}"
    )
    if last != total.item():
        differ.append(name)
sys.exit(0 if differ == ["uint8", "int8", "int16"] else 1)
EOF
