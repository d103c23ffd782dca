#!/bin/sh
# MLX 0.32.4 on the CPU: mx.eval on Python threads that come and go.
#
# What one would think: a thread that has ended leaves nothing behind, so a program may compute on a new thread for each
# request, as it may with NumPy.
# What happens: each Python thread that evaluates gets a CPU stream of its own, and with it a thread of the system that waits for
# work until the process ends. Threads of a pool are counted once; threads that come and go add up, one each, with their
# stacks. Threads that use NumPy alone leave none.
# Output seen (Linux):
#   threads of the process: 2 before, 2 after 40 threads that used NumPy, 43 after 40 threads that used MLX
# What to do: have one thread that owns MLX and give it the work, or a pool that stays.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env" > /dev/null
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check 'mlx[cpu]==0.32.4' 'numpy<3' 'psutil==7.1.3' 2> /dev/null
OPENBLAS_NUM_THREADS=1 "$folder/env/bin/python" - <<'EOF'
import sys
import threading

import mlx.core as mx
import numpy as np
import psutil

mx.set_default_device(mx.cpu)
mx.eval(mx.ones((4,)) + 1)
count = psutil.Process().num_threads


def on_threads(work):
    for _ in range(40):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()


before = count()
on_threads(lambda: np.ones(4) + 1)
with_numpy = count()
on_threads(lambda: mx.eval(mx.ones((4,)) + 1))
with_mlx = count()
print(
    f"threads of the process: {before} before, {with_numpy} after 40 threads that used NumPy, "
    f"{with_mlx} after 40 threads that used MLX"
)
sys.exit(not (with_numpy == before and with_mlx - with_numpy >= 40))
EOF
