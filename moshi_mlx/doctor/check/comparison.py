"""One operation of the package at one shape, compared with what is right."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

NAMES = {mx.float32: "f32", mx.bfloat16: "bf16", mx.float16: "f16"}

ROUNDED = 1e-2
"""Of results in bfloat16, whose steps at the peak are 0.4 %: one or two roundings, and sums in float32."""


@dataclass(frozen=True)
class Case:
    """compute: gives what the package computes, and what is right, as arrays of one shape.

    tolerance: the largest difference, as a share of the largest right value.
    known: why a difference is expected here, and why it does no harm; "" where none is.
    """

    operation: str
    detail: str
    tolerance: float
    compute: Callable[[], tuple[mx.array | np.ndarray, np.ndarray]]
    known: str = ""


@dataclass(frozen=True)
class Outcome:
    """What became of a case.

    error: as `Case.tolerance`, None if no number came out; problem: what stood in its way.
    """

    operation: str
    detail: str
    status: str  # "right", "wrong" or "known"
    error: float | None
    tolerance: float
    seconds: float
    problem: str = ""
    known: str = ""


def judge(case: Case) -> Outcome:
    """Run a case. What MLX refuses to compute is wrong, not an error of this program."""
    start, error, problem = time.perf_counter(), None, ""
    try:
        got, right = case.compute()
        error = difference(got, right)
    except Exception as refusal:  # whatever it is, it belongs to this operation
        problem = f"{type(refusal).__name__}: {str(refusal).splitlines()[0] if str(refusal) else ''}".rstrip(": ")
    seconds = round(time.perf_counter() - start, 4)
    # Not NaN either, which compares false.
    right_enough = error is not None and error <= case.tolerance
    status = "right" if right_enough else "known" if case.known and not problem else "wrong"
    finite = error if error is not None and np.isfinite(error) else None
    if error is not None and finite is None:
        problem = "not a number, or infinite"
    return Outcome(case.operation, case.detail, status, finite, case.tolerance, seconds, problem, case.known)


def difference(got: mx.array | np.ndarray, right: np.ndarray) -> float:
    """Return the largest difference as a share of the largest right value. Raises ValueError for other shapes."""
    found = numbers(got).astype(np.float64)
    if found.shape != right.shape:
        raise ValueError(f"the result has shape {list(found.shape)}, {list(right.shape)} expected")
    both = np.isneginf(found) & np.isneginf(right)  # what sampling has filtered out
    found, right = np.where(both, 0, found), np.where(both, 0, right.astype(np.float64))
    peak = np.abs(right).max(initial=0.0)
    return float(np.abs(found - right).max(initial=0.0) / (peak or 1.0))


def numbers(array: mx.array | np.ndarray) -> np.ndarray:
    """Return an array of MLX, of whatever type, as one of NumPy: floats as float32, evaluated."""
    if isinstance(array, np.ndarray):
        return array
    return np.array(array.astype(mx.float32) if mx.issubdtype(array.dtype, mx.floating) else array)


def on_gpu() -> bool:
    """Return whether MLX computes on a GPU here."""
    return mx.default_device() == mx.gpu


def exact() -> float:
    """Return the tolerance of float32: on GPUs, matrix products may keep only 10 bits of each factor (TF32)."""
    return 2e-3 if on_gpu() else 1e-4


def tolerance(dtype: mx.Dtype) -> float:
    """Return the tolerance of a product or sum whose result has this type."""
    return exact() if dtype == mx.float32 else ROUNDED


class Noise:
    """Random arrays from few random numbers: making hundreds of millions takes longer than checking them.

    The period is prime, so that no two rows of a large array are alike.
    """

    PERIOD = 1_048_573

    def __init__(self, seed: int = 0) -> None:
        rng = np.random.Generator(np.random.PCG64(seed))
        self._normal = rng.standard_normal(self.PERIOD, np.float32)
        self._words = rng.integers(0, 1 << 32, self.PERIOD, np.uint32)
        self._next = 0

    def normal(self, *shape: int) -> np.ndarray:
        """Return numbers of variance 1, float32."""
        return self._take(self._normal, shape)

    def words(self, *shape: int) -> np.ndarray:
        """Return random bits, uint32."""
        return self._take(self._words, shape)

    def _take(self, bank: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        start, count = self._next, int(np.prod(shape))
        self._next = (start + count + 1) % self.PERIOD
        made = np.empty(count, bank.dtype)
        done = 0
        while done < count:
            part = bank[start : start + count - done]
            made[done : done + len(part)] = part
            start, done = 0, done + len(part)
        return made.reshape(shape)
