"""Times of frames: as fast as they go (burst), or one every 80 ms (paced)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx
import numpy as np

from moshi_mlx.bench.graph import replacing
from moshi_mlx.bench.parts import measure_parts
from moshi_mlx.bench.report import PARTS
from moshi_mlx.bench.scene import resident_peak
from moshi_mlx.errors import ConfigError
from moshi_mlx.frames import FRAME_SAMPLES, FRAME_SECONDS
from moshi_mlx.models.config import LmConfig
from moshi_mlx.runtime.batch import Batch
from moshi_mlx.runtime.engine import converse_together
from moshi_mlx.runtime.moshi import Moshi
from moshi_mlx.runtime.session import Reply, Session
from moshi_mlx.runtime.stats import Stats
from moshi_mlx.weights.lm_weights import weight_bytes

WARM_UP = 10  # live frames before those that count: delays are filled
MINUTE = round(60 / FRAME_SECONDS)  # frames
STAGES = ("encode", "generate", "decode", "host")
PARTS_FRAMES = 30  # at most: they cost extra


@dataclass
class Times:
    """Seconds per frame, one entry a frame.

    host: the part of generate in which Python builds the graph and keeps its books, not waiting for MLX.
    latency: from the moment the frame was there to the moment its reply was.
    """

    threaded: bool  # encode and decode ran beside generate
    encode: list[float] = field(default_factory=list)
    generate: list[float] = field(default_factory=list)
    decode: list[float] = field(default_factory=list)
    host: list[float] = field(default_factory=list)
    latency: list[float] = field(default_factory=list)
    seconds: float = 0.0

    def frame(self) -> np.ndarray:
        """What each frame costs: its slowest stage where they overlap, else their sum."""
        stages = np.array([self.encode, self.generate, self.decode])
        return stages.max(axis=0) if self.threaded else stages.sum(axis=0)


@dataclass(frozen=True)
class Plan:
    """What to measure. context: past positions to start from. batch: conversations in a step.

    keep: report the time of every frame.
    """

    frames: int = 100
    context: int = 0
    batch: int = 1
    paced: bool = False
    keep: bool = False


def check_plan(plan: Plan, config: LmConfig) -> None:
    """Raise ConfigError for a plan that a model cannot follow; it need not be loaded yet."""
    window = config.transformer.context
    if not 0 <= plan.context <= window:
        raise ConfigError(
            f"a context of {plan.context}: 0 to {window} expected, the positions of the model's window"
        )
    if plan.frames < 1 or plan.batch < 1:
        raise ConfigError(f"{plan.frames} frames of {plan.batch} conversations: at least 1 of each expected")


def measure(moshi: Moshi, plan: Plan, bandwidth: float | None = None) -> dict[str, Any]:
    """Run a plan; returns its figures, ready for JSON. bandwidth: of the chip, GB/s.

    Raises ConfigError for a plan that the model cannot follow.
    """
    check_plan(plan, moshi.lm.config)
    window = moshi.lm.config.transformer.context
    started = time.perf_counter()
    moshi.warm_up(plan.batch)
    warm_up = time.perf_counter() - started
    batch = moshi.batch(plan.batch)
    sessions = [batch.join(seed=row) for row in range(plan.batch)]
    try:
        first = _run(sessions, 1, paced=False)
        _run(sessions, WARM_UP, paced=False)
        if plan.context:
            fill(batch, plan.context)
        start = batch._state.temporal.position
        mx.reset_peak_memory()
        times = _run(sessions, plan.frames, plan.paced)
        reach = np.minimum(start + 1 + np.arange(plan.frames), window)
        position = sum(array.nbytes for array in batch._state.temporal.arrays()) / batch._state.temporal.slots
        memory = _memory()
        parts = measure_parts(sessions, min(plan.frames, PARTS_FRAMES))
    finally:
        for session in sessions:
            session.close()
    keys_values = position * float(reach.mean())
    weights = weight_bytes(moshi.lm, plan.batch)
    figures = _figures(moshi, plan, times, first, warm_up, weights, keys_values, bandwidth)
    return {**figures, "parts": {name: percentiles(getattr(parts, name)) for name in PARTS}, **memory}


def fill(batch: Batch, positions: int) -> None:
    """Make a batch's window look as if `positions` frames had passed, without running them; all rows took part."""
    cache = batch._state.temporal
    for array in cache.arrays():
        array[...] = _noise_like(array.shape, array.dtype)
        mx.eval(array)  # one at a time: the copies do not add up
    cache.running[:, : min(positions, cache.slots)] = True
    cache.position = positions


def _noise_like(shape: tuple[int, ...], dtype: mx.Dtype) -> mx.array:
    if mx.issubdtype(dtype, mx.floating):
        return mx.random.uniform(-1, 1, shape, dtype)
    return mx.random.randint(0, 127, shape).astype(dtype)


def _run(sessions: list[Session], frames: int, paced: bool) -> Times:
    """Run the loop that the program uses for so many frames of all sessions, and keep the time of each."""
    times, stats, waits = Times(sessions[0].batch.moshi.codec.threaded), Stats(), []
    evaluate = mx.eval

    def timed_eval(*arrays: Any) -> None:
        start = time.perf_counter()
        evaluate(*arrays)
        waits.append(time.perf_counter() - start)

    def encoded(start: float, seconds: float) -> None:
        times.encode.append(seconds)
        waits.clear()  # a codec in MLX waits for it on the same thread

    def generated(start: float, seconds: float) -> None:
        times.generate.append(seconds)
        times.host.append(seconds - sum(waits))

    stats.encode.observer, stats.generate.observer = encoded, generated
    stats.decode.observer = lambda start, seconds: times.decode.append(seconds)
    passing = [_Frames(frames, paced and not row) for row in range(len(sessions))]  # all wait for the first one
    with replacing(mx, eval=timed_eval):
        converse_together({session: (each, each) for session, each in zip(sessions, passing, strict=True)}, stats)
    times.latency, times.seconds = passing[0].latency, stats.seconds
    return times


class _Frames:
    """Noise as a source, which remembers when each frame was there; and the sink that notes the replies."""

    def __init__(self, count: int, paced: bool) -> None:
        self._count, self._paced = count, paced
        self._noise = _noise()
        self._given: list[float] = []
        self.latency: list[float] = []

    def __iter__(self) -> Iterator[np.ndarray]:
        start = time.perf_counter()
        for index in range(self._count):
            due = _wait(start, index) if self._paced else time.perf_counter()
            self._given.append(due)
            yield self._noise[index % len(self._noise)]

    def close(self) -> None:
        pass

    def write(self, reply: Reply) -> None:
        self.latency.append(time.perf_counter() - self._given[len(self.latency)])


def _wait(start: float, index: int) -> float:
    """Sleep until frame `index` is there, as a microphone would; returns when that was."""
    due = start + index * FRAME_SECONDS
    time.sleep(max(0.0, due - time.perf_counter()))
    return due


def _noise() -> np.ndarray:
    return (0.1 * np.random.RandomState(0).standard_normal((16, FRAME_SAMPLES))).astype(np.float32)


def _figures(
    moshi: Moshi,
    plan: Plan,
    times: Times,
    first: Times,
    warm_up: float,
    weights: int,
    keys_values: float,
    bandwidth: float | None,
) -> dict[str, Any]:
    frame = times.frame()
    per_second = plan.frames * plan.batch / times.seconds
    step_seconds = float(np.median(times.generate))
    total = weights + keys_values
    achieved = total / step_seconds / 1e9
    config = moshi.lm.config
    return {
        "mode": "paced" if plan.paced else "burst",
        "context": plan.context,
        "batch": plan.batch,
        "codec": moshi.codec.name,
        "frames": plan.frames,
        "warm_up_seconds": round(warm_up, 3),
        "frames_before": 1 + WARM_UP,
        "seconds": round(times.seconds, 3),
        "frames_per_second": round(per_second, 3),
        "tokens_per_second": round(per_second * (1 + config.dep_q), 2),
        "real_time_factor": round(times.seconds / (plan.frames * FRAME_SECONDS), 4),
        "stages": {name: percentiles(getattr(times, name)) for name in STAGES},
        "frame": percentiles(frame),
        "latency": percentiles(times.latency),
        "first_frame_ms": _ms(first.generate[0]),
        "deadline_misses": int((frame > FRAME_SECONDS).sum()),
        "passed": bool(np.percentile(frame, 99) <= FRAME_SECONDS),
        "weight_bytes_per_frame": weights,
        "kv_bytes_per_frame": round(keys_values),
        "achieved_GB_per_s": round(achieved, 2),
        "share_of_bandwidth": round(achieved / bandwidth, 3) if bandwidth else None,
        "series": _series(frame),
        "frame_ms": [_ms(seconds) for seconds in frame] if plan.keep else None,
    }


def _memory() -> dict[str, int]:
    return {
        "mlx_peak_bytes": mx.get_peak_memory(),
        "mlx_active_bytes": mx.get_active_memory(),
        "resident_peak_bytes": resident_peak(),
    }


def _series(frame: np.ndarray) -> list[dict[str, float]]:
    """How times went over a long run: one entry per minute, at least one."""
    minutes = [frame[start : start + MINUTE] for start in range(0, len(frame), MINUTE)]
    return [percentiles(minute) for minute in minutes]


def percentiles(seconds: Any) -> dict[str, float]:
    """Milliseconds, rounded for reading."""
    p50, p95, p99 = np.percentile(seconds, [50, 95, 99])
    return {"p50_ms": _ms(p50), "p95_ms": _ms(p95), "p99_ms": _ms(p99), "max_ms": _ms(max(seconds))}


def _ms(seconds: float) -> float:
    return round(1000 * float(seconds), 3)
