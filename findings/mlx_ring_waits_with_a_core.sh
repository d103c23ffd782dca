#!/bin/sh
# MLX 0.32.4, `mx.distributed`, the ring: one of two processes comes 3 seconds later to a sum.
#
# What one would think: the other one sleeps until then, as whoever reads from a socket does.
# What happens: it tries to read without a pause, and takes all of a core that it can get for as long as it waits.
# Output seen on 2026-11-29:
#   a processor is busy while a process waits 3 seconds for the other: yes
# What to do: wait for messages over a connection of your own, and come to a sum only when the others come, too.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env" > /dev/null
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check 'mlx[cpu]==0.32.4' 2> /dev/null
cat > "$folder/one.py" <<'EOP'
import time

import mlx.core as mx

group = mx.distributed.init(strict=True)
mx.eval(mx.distributed.all_sum(mx.ones(1)))
if group.rank() == 0:
    time.sleep(3)
before = time.process_time()
mx.eval(mx.distributed.all_sum(mx.ones(1)))
spent = time.process_time() - before
if group.rank() == 1:
    # 1.4 seconds of it were seen; beside other programs what they leave; a sleep would be some milliseconds.
    print(f"a processor is busy while a process waits 3 seconds for the other: {'yes' if spent > 0.2 else 'no'}")
EOP
"$folder/env/bin/mlx.launch" -n 2 "$folder/env/bin/python" "$folder/one.py" < /dev/null > "$folder/said" 2>&1
grep 'a processor is busy' "$folder/said" || { cat "$folder/said"; exit 2; }
grep -q 'other: yes' "$folder/said"
