"""How many rows the model's state has: as many as there are people, in steps, so that few sizes are compiled."""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx

from moshi_mlx.models.lm import LmState


def widths(size: int) -> list[int]:
    """Return how many rows a batch of `size` places has at one time or another: 1, 2, 4, ..., size."""
    steps = [1]
    while steps[-1] < size:
        steps.append(min(2 * steps[-1], size))
    return steps


def width_for(people: int, size: int) -> int:
    """Return the least of `widths` that has a row for each of so many people, 1 or more."""
    return next(width for width in widths(size) if width >= people)


def keep_rows(
    state: LmState, rows: Sequence[int | None], halves: int, condition: mx.array | None
) -> mx.array | None:
    """Let a state hold these rows of its own, in this order, and a new one for each None; so in each half.

    One layer is copied at a time: the copies do not add up. condition: an entry for each row of the state.
    Returns it for the rows that there are now.
    """
    held = state.temporal.batch // halves
    of_all = [None if row is None else row + half * held for half in range(halves) for row in rows]
    places = state.temporal.keep_rows(of_all)
    state.depth = [each[places] for each in state.depth]
    state.crossed = [each[places] for each in state.crossed]
    condition = None if condition is None else condition[places[: len(of_all)]]
    mx.eval(state.depth, state.crossed, condition)
    return condition
