#!/bin/sh
# MLX 0.32.4: mx.random without a key, in several threads.
#
# What one would think: a program has one random state. Threads that draw from it get different numbers, and mx.random.seed, called
# once at the start, makes all of them repeatable.
# What happens: every thread has a state of its own, and each of them begins with the same one, made from the clock when the first of
# them drew. So all threads draw the same numbers in the same order, a thread that is started later too, and threads that are
# started one after the other for one piece of work each draw the same every time. mx.random.seed sets the state of
# the thread that calls it and of no other: another thread's numbers differ from run to run in spite of it.
# Output seen (of a thread without a seed they change with every run):
#   seeded in the main thread with 7, which then draws 77, 330, 832, 321
#   a thread draws 636, 969, 778, 116; the next thread draws 636, 969, 778, 116
#   a thread that seeds itself with 7 draws 77, 330, 832, 321
# What to do: give every draw a key (mx.random.split of one that was made from a number of the work's own), as a model that answers several
# people must; or seed in the thread that draws, each with another number.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env" > /dev/null
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check 'mlx[cpu]==0.32.4' 2> /dev/null
"$folder/env/bin/python" - <<'EOF'
import sys
from concurrent.futures import ThreadPoolExecutor

import mlx.core as mx

mx.set_default_device(mx.cpu)


def draw():
    return mx.random.randint(0, 1000, (4,)).tolist()


def seed_and_draw():
    mx.random.seed(7)
    return draw()


def in_a_new_thread(what):
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(what).result()


def words(numbers):
    return ", ".join(map(str, numbers))


mx.random.seed(7)
seeded = draw()
first, second, itself = in_a_new_thread(draw), in_a_new_thread(draw), in_a_new_thread(seed_and_draw)
print(f"seeded in the main thread with 7, which then draws {words(seeded)}")
print(f"a thread draws {words(first)}; the next thread draws {words(second)}")
print(f"a thread that seeds itself with 7 draws {words(itself)}")
holds = first == second and first != seeded and itself == seeded
sys.exit(0 if holds else 1)
EOF
