"""Parts of a step at once, each on a core of its own, where MLX computes on the CPU.

MLX runs one stream of a CPU on one thread. Graphs are all built by the thread that owns the model, each on a
stream of its own, and only computed by others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import mlx.core as mx

from moshi_mlx.machine import this_machine

Item = TypeVar("Item")
Made = TypeVar("Made")

MOST = 4  # each holds gradients of its own


def lanes() -> int:
    """Return how many parts are computed at once: 1 on a GPU."""
    return 1 if mx.default_device() == mx.gpu else min(MOST, this_machine().cores)


def together(build: Callable[[Item], Made], items: Sequence[Item]) -> list[Made]:
    """Return build(item), arrays in any tree, for each item; of several, all are computed at once.

    What they read must be computed already, and `build` must not call what MLX has compiled: that keeps to the
    stream that it was first traced on.
    """
    if len(items) < 2:
        return [build(item) for item in items]
    made = []
    for stream, item in zip(_streams(len(items)), items, strict=True):
        with mx.stream(stream):
            made.append(build(item))
    others = [_threads().submit(mx.eval, one) for one in made[1:]]
    try:
        mx.eval(made[0])
    finally:
        for other in others:
            other.result()
    return made


@cache
def _streams(count: int) -> list[mx.Stream]:
    return [mx.new_thread_unsafe_stream(mx.cpu) for _ in range(count)]


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(MOST - 1, "lane")
