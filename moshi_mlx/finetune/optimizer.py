"""One step of AdamW, and how its learning rate and momentum go up and down over a run.

Both are PyTorch's: the momentum changes from step to step, and the correction of its bias with it, which the
optimizers of MLX do not have. Source: torch/optim/adamw.py; torch/optim/lr_scheduler.py `OneCycleLR`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import mlx.core as mx

BETA2, EPSILON = 0.95, 1e-8
_SLOWEST, _FASTEST = 0.95, 0.85  # momentum far from the peak, and at it
_START, _END = 25.0, 1e4  # the rate begins at a 25th of its peak, and ends at a 10,000th of that


@dataclass(frozen=True)
class Pace:
    """How far a step goes: learning rate and momentum."""

    rate: float
    momentum: float


def one_cycle(step: int, steps: int, peak: float, warm_up: float) -> Pace:
    """Return the pace of a step, counted from 0: up to the peak along a cosine, and down again.

    steps: of the whole run. peak: the highest learning rate. warm_up: the share of the run that goes up.
    """
    top, end = warm_up * steps - 1, steps - 1
    lowest = peak / _START
    if step <= top or end <= top:
        share = step / top if top > 0 else 1.0
        return Pace(_between(lowest, peak, share), _between(_SLOWEST, _FASTEST, share))
    share = (step - top) / (end - top)
    return Pace(_between(peak, lowest / _END, share), _between(_FASTEST, _SLOWEST, share))


def _between(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))


def scalars(pace: Pace, step: int) -> mx.array:
    """Return what `adamw` needs of a step, (4,) float32: rate, momentum, and the two corrections of bias."""
    return mx.array([pace.rate, pace.momentum, 1 - pace.momentum ** (step + 1), 1 - BETA2 ** (step + 1)])


def adamw(
    value: mx.array, gradient: mx.array, mean: mx.array, square: mx.array, scalars: mx.array, decay: float
) -> tuple[mx.array, mx.array, mx.array]:
    """Return a parameter's next value, and the running means of its gradient and of that squared; all float32."""
    rate, momentum, correction, square_correction = scalars
    mean = momentum * mean + (1 - momentum) * gradient
    square = BETA2 * square + (1 - BETA2) * mx.square(gradient)
    root = mx.sqrt(square) / mx.sqrt(square_correction) + EPSILON
    return value * (1 - rate * decay) - rate / correction * mean / root, mean, square
