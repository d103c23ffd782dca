"""Which windows a step learns from: every one once before any comes again, each time in another order.

What is drawn follows from the seed and the number of the step alone, so a run that
goes on draws what it would have.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np


def draws(sizes: Sequence[int], weights: Sequence[float], seed: int, skip: int = 0) -> Iterator[tuple[int, int]]:
    """Draw windows for ever, as (source, window).

    sizes: windows of each source. weights: how often each source is drawn from, beside the others.
    skip: how many draws were taken before.
    """
    random = np.random.RandomState([seed, len(sizes)])
    shares = np.array(weights) / np.sum(weights)
    orders = [_shuffled(size, seed + index) for index, size in enumerate(sizes)]
    for number in range(1 << 62):
        source = int(random.choice(len(sizes), p=shares)) if len(sizes) > 1 else 0
        window = next(orders[source])
        if number >= skip:
            yield source, window


def _shuffled(size: int, seed: int) -> Iterator[int]:
    random = np.random.RandomState(seed % 2**32)
    while True:
        yield from random.permutation(size).tolist()


def held_out(count: int, share: float, seed: int) -> set[int]:
    """Choose recordings that are not learned from but tested with; at least one of several, none of one."""
    if count < 2 or not share:
        return set()
    chosen = np.random.RandomState(seed).permutation(count)[: max(1, round(count * share))]
    return set(chosen.tolist())
