"""A residual is added and the sum is normed: the plain way in two kernels, and one kernel of our own for Metal.

A frame of Moshi 7B does it 151 times. The kernel serves a few rows, where launches are what it costs, and
only where it has passed its trial: on the GPU at hand, when a model is loaded, it must give the plain
way's numbers and take less time. Everywhere else, and whatever goes wrong, the plain way is taken.
Source: MLX's custom Metal kernels, `mx.fast.metal_kernel`; moshi/modules/transformer.py `RMSNorm`.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import mlx.core as mx

AddNorm = Callable[[mx.array, mx.array, mx.array, float], tuple[mx.array, mx.array]]
"""(x, update, weight, eps) -> x + update, and its RMS norm times the weight; rows (..., dim), weight (dim,)."""

LANES = 32  # of a simdgroup
MOST_THREADS = 1024  # of a threadgroup
SUMMED = 2e-6  # relative: float32 sums of squares in another order
FEW = 64  # rows; a prompt's chunk of more goes the plain way
EACH = 4  # numbers of a row that a thread keeps, while there are threads for it

SOURCE = """
    const uint lane = thread_position_in_threadgroup.x;
    const uint row = threadgroup_position_in_grid.x * D;
    threadgroup float partial[N / 32];
    T kept[(D + N - 1) / N];
    float squares = 0;
    for (uint k = 0, i = lane; i < D; ++k, i += N) {
        kept[k] = x[row + i] + update[row + i];
        added[row + i] = kept[k];
        squares += static_cast<float>(kept[k]) * static_cast<float>(kept[k]);
    }
    squares = simd_sum(squares);
    if (lane % 32 == 0) {
        partial[lane / 32] = squares;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    float total = 0;
    for (uint group = 0; group < N / 32; ++group) {
        total += partial[group];
    }
    const float scale = metal::precise::rsqrt(total / D + eps[0]);
    for (uint k = 0, i = lane; i < D; ++k, i += N) {
        normed[row + i] = weight[i] * static_cast<T>(static_cast<float>(kept[k]) * scale);
    }
"""
"""The kernel's body: a threadgroup of N threads adds up and norms one row of D numbers of type T."""


def plain(x: mx.array, update: mx.array, weight: mx.array, eps: float) -> tuple[mx.array, mx.array]:
    """Add and norm by MLX's own kernels; see `AddNorm`."""
    x = x + update
    return x, mx.fast.rms_norm(x, weight, eps)


def fused(x: mx.array, update: mx.array, weight: mx.array, eps: float) -> tuple[mx.array, mx.array]:
    """Add and norm by the kernel, on Metal; see `AddNorm`. All arrays are of one type."""
    dim = x.shape[-1]
    threads = threads_for(dim)
    added, normed = _kernel()(
        inputs=[x, update, weight, mx.array([eps], mx.float32)],
        template=[("T", x.dtype), ("D", dim), ("N", threads)],
        grid=(threads * (x.size // dim), 1, 1),
        threadgroup=(threads, 1, 1),
        output_shapes=[x.shape, x.shape],
        output_dtypes=[x.dtype, x.dtype],
    )
    return added, normed


def threads_for(dim: int) -> int:
    """Return how many threads work on a row: whole simdgroups."""
    return min(MOST_THREADS, -(-dim // (EACH * LANES)) * LANES)


@cache
def _kernel() -> Any:
    inputs, outputs = ["x", "update", "weight", "eps"], ["added", "normed"]
    return mx.fast.metal_kernel(name="moshi_add_norm", input_names=inputs, output_names=outputs, source=SOURCE)


@dataclass(frozen=True)
class Trial:
    """What became of the kernel for rows of one width and type, on this machine.

    problem: why it is not used; empty if it is. The times are microseconds of one call, None if not taken.
    """

    dim: int
    dtype: str
    problem: str = ""
    fused_us: float | None = None
    plain_us: float | None = None

    @property
    def used(self) -> bool:
        """Whether the kernel is taken."""
        return not self.problem

    def __str__(self) -> str:
        times = "" if self.fused_us is None else f" ({self.fused_us:.1f} µs, plain {self.plain_us:.1f} µs)"
        return f"{self.dim} wide: " + ("used" if self.used else f"not used, {self.problem}") + times


trials: dict[tuple[int, mx.Dtype], Trial] = {}
"""What has been tried on this machine, by width and type of a row."""


def prepare(dim: int, dtype: mx.Dtype) -> None:
    """Try the kernel for rows of a width and type, unless that was done before; MLX waits for a GPU meanwhile."""
    if mx.metal.is_available() and mx.default_device() == mx.gpu and (dim, dtype) not in trials:
        trials[dim, dtype] = tried(fused, dim, dtype)


def tried(candidate: AddNorm, dim: int, dtype: mx.Dtype, seconds: Callable[..., float] | None = None) -> Trial:
    """Compare a candidate with the plain way: numbers, then time.

    The sums must be equal, the norms within two steps of the type, or SUMMED in float32.
    seconds: (way, dim, dtype) -> those of one call.
    """
    seconds = seconds or seconds_of
    name = str(dtype).rpartition(".")[2]
    try:
        if problem := difference(candidate, dim, dtype):
            return Trial(dim, name, problem)
        ours, theirs = 1e6 * seconds(candidate, dim, dtype), 1e6 * seconds(plain, dim, dtype)
    except (RuntimeError, ValueError) as error:  # whatever a compiler or driver has against it
        return Trial(dim, name, f"it does not run: {str(error).strip().splitlines()[0]}")
    return Trial(dim, name, "" if ours < theirs else "it is no faster", round(ours, 2), round(theirs, 2))


def difference(candidate: AddNorm, dim: int, dtype: mx.Dtype) -> str:
    """Say how a candidate's numbers differ from the plain way's, for one row and several; "" if they do not."""
    for rows in (1, 3, FEW):
        x, update, weight = _rows(rows, dim, dtype)
        for size in (1.0, 1e-3, 100.0):
            added, normed = candidate(x * size, update * size, weight, 1e-8)
            expected, norm = plain(x * size, update * size, weight, 1e-8)
            if not mx.array_equal(added, expected).item():
                return "its sums are others"
            near = max(2 * mx.finfo(dtype).eps, SUMMED)
            off = mx.abs(normed.astype(mx.float32) - norm.astype(mx.float32))
            if not mx.all(off <= near * mx.abs(norm.astype(mx.float32)) + 1e-30).item():
                return "its norms are others"
    return ""


def seconds_of(way: AddNorm, dim: int, dtype: mx.Dtype) -> float:
    """Measure one call for one row: the median of several chains of calls that wait for each other."""
    x, update, weight = _rows(1, dim, dtype)
    calls, times = 200, []
    for _ in range(7):
        first, second = x, update
        start = time.perf_counter()
        for _ in range(calls):
            first, second = way(first, second, weight, 1e-8)
        mx.eval(first, second)
        times.append((time.perf_counter() - start) / calls)
    return statistics.median(times[1:])  # the first compiles


def add_norm(x: mx.array, update: mx.array, weight: mx.array, eps: float) -> tuple[mx.array, mx.array]:
    """Add and norm by the kernel if it passed its trial for such rows, else the plain way; see `AddNorm`."""
    trial = trials.get((x.shape[-1], x.dtype))
    if trial and trial.used and x.ndim == 2 and len(x) <= FEW and update.dtype == weight.dtype == x.dtype:
        return fused(x, update, weight, eps)
    return plain(x, update, weight, eps)


def _rows(rows: int, dim: int, dtype: mx.Dtype) -> tuple[mx.array, mx.array, mx.array]:
    keys = mx.random.split(mx.random.key(0), 3)
    x, update = (mx.random.normal((rows, dim), key=key).astype(dtype) for key in (keys[0], keys[1]))
    weight = (1 + 0.1 * mx.random.normal((dim,), key=keys[2])).astype(dtype)
    mx.eval(x, update, weight)
    return x, update, weight
