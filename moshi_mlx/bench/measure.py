"""Times of frames: as fast as they go (burst), or one every 80 ms (paced)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import mlx.core as mx
import numpy as np

from moshi_mlx.bench.parts import measure_parts
from moshi_mlx.bench.scene import resident_peak
from moshi_mlx.errors import ConfigError
from moshi_mlx.frames import FRAME_SAMPLES, FRAME_SECONDS
from moshi_mlx.models.config import LmConfig
from moshi_mlx.models.layers import weight_bytes
from moshi_mlx.runtime.batch import Batch
from moshi_mlx.runtime.engine import converse_together
from moshi_mlx.runtime.moshi import Moshi
from moshi_mlx.runtime.reply import Reply
from moshi_mlx.runtime.session import Session
from moshi_mlx.runtime.stats import StageTimes, Stats, percentiles

WARM_UP = 10  # live frames before those that count: delays are filled
MINUTE = round(60 / FRAME_SECONDS)  # frames
PARTS_FRAMES = 30  # at most: they cost extra


@dataclass(frozen=True)
class Workload:
    """What is measured. context: past positions to start from. batch: conversations that are stepped together.

    keep: report the time of every frame.
    """

    frames: int = 100
    context: int = 0
    batch: int = 1
    paced: bool = False
    keep: bool = False

    def check(self, config: LmConfig) -> None:
        """Raise ConfigError if a model, which need not be loaded yet, cannot do this."""
        window = config.transformer.context
        if not 0 <= self.context <= window:
            raise ConfigError(
                f"a context of {self.context} is outside 0–{window}, the positions of the model's window"
            )
        if self.frames < 1 or self.batch < 1:
            raise ConfigError(f"{self.frames} frames of {self.batch} conversations: measure at least 1 of each")


def measure(
    moshi: Moshi, workload: Workload, bandwidth: float | None = None, watch: Watch | None = None
) -> dict[str, Any]:
    """Run a workload and return its figures, ready for JSON. bandwidth: of the chip, GB/s.

    Raises ConfigError for a workload that the model cannot do.
    """
    config, watch = moshi.lm.config, watch or Watch()
    workload.check(config)
    started = time.perf_counter()
    moshi.warm_up(workload.batch)
    warm_up = time.perf_counter() - started
    batch = moshi.batch(workload.batch)
    with ExitStack() as stack:
        sessions = [stack.enter_context(batch.join(seed=row)) for row in range(workload.batch)]
        first = Run(sessions, 1)
        warm = Run(sessions, WARM_UP)
        watch.expect(warm.stats.seconds / WARM_UP)
        if workload.context:
            fill(batch, workload.context)
        window = _window_bytes(batch, workload.frames)
        mx.reset_peak_memory()
        run = Run(sessions, workload.frames, workload.paced, watch.advance)
        memory = {
            "mlx_peak_bytes": mx.get_peak_memory(),
            "mlx_active_bytes": mx.get_active_memory(),
            "resident_peak_bytes": resident_peak(),
        }
        parts = measure_parts(sessions, min(workload.frames, PARTS_FRAMES))
    seconds, frame = run.stats.seconds, frame_seconds(run.stats, moshi.codec.threaded)
    per_second = workload.frames * workload.batch / seconds
    weights = weight_bytes(moshi.lm, workload.batch)
    achieved = (weights + window) / run.stats.generate.percentile(50) / 1e9
    return {
        "mode": "paced" if workload.paced else "burst",
        "context": workload.context,
        "batch": workload.batch,
        "codec": moshi.codec.name,
        "frames": workload.frames,
        "warm_up_seconds": round(warm_up, 3),
        "frames_before": 1 + WARM_UP,
        "seconds": round(seconds, 3),
        "frames_per_second": round(per_second, 3),
        "tokens_per_second": round(per_second * (1 + config.dep_q), 2),
        "real_time_factor": round(seconds / (workload.frames * FRAME_SECONDS), 4),
        "stages": {name: times.as_dict() for name, times in {**run.stats.stages, "host": run.host}.items()},
        "frame": percentiles(frame),
        "latency": run.latency.as_dict(),
        "first_frame_ms": _ms(first.stats.generate.first),
        "deadline_misses": sum(each > FRAME_SECONDS for each in frame),
        "passed": bool(np.percentile(frame, 99) <= FRAME_SECONDS),
        "weight_bytes_per_frame": weights,
        "kv_bytes_per_frame": round(window),
        "achieved_GB_per_s": round(achieved, 2),
        "share_of_bandwidth": round(achieved / bandwidth, 3) if bandwidth else None,
        "series": by_the_minute(frame),
        "frame_ms": [_ms(each) for each in frame] if workload.keep else None,
        "parts": {name: times.as_dict() for name, times in parts.items()},
        **memory,
    }


@dataclass(frozen=True)
class Watch:
    """Who is told how a measurement goes. It must be quick: what it does is done between the frames.

    expect: what a frame takes about, in seconds, before those that count. advance: so many more frames are done.
    """

    expect: Callable[[float], None] = lambda seconds: None
    advance: Callable[[int], None] = lambda frames: None


class Run:
    """A run of some frames of all sessions of a batch, through the loop that the program uses, with all times.

    host: the part of generate in which Python builds the graph and keeps its books, not waiting for MLX.
    latency: from the moment a frame was there to the moment its reply was, of the first session.
    """

    def __init__(
        self,
        sessions: Sequence[Session],
        frames: int,
        paced: bool = False,
        advance: Callable[[int], None] = lambda frames: None,
    ) -> None:
        moshi = sessions[0].batch.moshi
        stage = partial(StageTimes, window=None)
        self.stats, self.host, self.latency = Stats(stage(), stage(), stage()), stage(), stage()
        self.stats.generate.observer = lambda start, seconds: self.host.add(seconds - moshi.step.waited)
        passing = [
            _Frames(frames, paced and not row) for row in range(len(sessions))
        ]  # all wait for the first one
        passing[0].latency, passing[0].advance = self.latency, advance
        converse_together(dict(zip(sessions, zip(passing, passing, strict=True), strict=True)), self.stats)


class _Frames:
    """A source of noise that remembers when each frame was there; and the sink that times the replies."""

    def __init__(self, count: int, paced: bool) -> None:
        self.latency = StageTimes()
        self.advance: Callable[[int], None] = lambda count: None
        self._count, self._paced = count, paced
        self._noise = (0.1 * np.random.RandomState(0).standard_normal((16, FRAME_SAMPLES))).astype(np.float32)
        self._given: list[float] = []

    def __iter__(self) -> Iterator[np.ndarray]:
        start = time.perf_counter()
        for index in range(self._count):
            due = time.perf_counter()
            if self._paced:  # as a microphone gives them
                due = start + index * FRAME_SECONDS
                time.sleep(max(0.0, due - time.perf_counter()))
            self._given.append(due)
            yield self._noise[index % len(self._noise)]

    def close(self) -> None:
        pass

    def write(self, reply: Reply) -> None:
        self.latency.add(time.perf_counter() - self._given[self.latency.count])
        self.advance(1)


def frame_seconds(stats: Stats, threaded: bool) -> list[float]:
    """Return what each frame cost: its slowest stage where they overlap, else their sum."""
    stages = zip(*(times.recent for times in stats.stages.values()), strict=True)
    return [max(stage) if threaded else sum(stage) for stage in stages]


def fill(batch: Batch, positions: int) -> None:
    """Fill a batch's window with noise, as if `positions` frames of all rows had passed."""
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


def _window_bytes(batch: Batch, frames: int) -> float:
    """Return the bytes of keys and values that the next `frames` frames read, their mean."""
    cache, window = batch._state.temporal, batch.moshi.lm.config.transformer.context
    position = sum(array.nbytes for array in cache.arrays()) / cache.slots
    return position * float(np.minimum(cache.position + 1 + np.arange(frames), window).mean())


def by_the_minute(frame: Sequence[float]) -> list[dict[str, float]]:
    """Summarize the times of a long run: one entry a minute, at least one."""
    return [percentiles(frame[start : start + MINUTE]) for start in range(0, len(frame), MINUTE)]


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 3)
