"""What a conversation cost: frames, time per stage, queue depths, drops."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from moshi_mlx.frames import FRAME_RATE, FRAME_SECONDS

T = TypeVar("T")
Watcher = Callable[[float, float], None]

LATELY = 25  # frames, two seconds
WINDOW = 4096  # frames whose times are kept for percentiles, about 5½ minutes: memory stays bounded


class StageTimes:
    """Times of one stage, in seconds.

    observer: told of every pass, `(start, seconds)` by `time.perf_counter`, on the stage's own thread.
    window: how many of the latest times are kept; all if None.
    """

    def __init__(self, observer: Watcher | None = None, window: int | None = WINDOW) -> None:
        self.observer = observer
        self.count = 0
        self.total = 0.0
        self.first = 0.0
        self.longest = 0.0
        self._recent: deque[float] = deque(maxlen=window)

    @contextmanager
    def measure(self, before: float = 0.0) -> Iterator[None]:
        """Time one pass through the stage. before: seconds that were spent on it earlier."""
        start = time.perf_counter() - before
        yield
        seconds = time.perf_counter() - start
        self.add(seconds)
        if self.observer:
            self.observer(start, seconds)

    def begun(self, begin: Callable[[], Callable[[], T]]) -> Callable[[], T]:
        """Begin a pass, and return what finishes it; the time between the two does not count.

        begin: begins it, and returns what waits for what comes of it.
        """
        start = time.perf_counter()
        finish = begin()
        spent = time.perf_counter() - start

        def finished() -> T:
            with self.measure(spent):
                return finish()

        return finished

    def add(self, seconds: float) -> None:
        """Count one pass of so many seconds."""
        if not self.count:
            self.first = seconds
        self.count += 1
        self.total += seconds
        self.longest = max(self.longest, seconds)
        self._recent.append(seconds)

    @property
    def recent(self) -> list[float]:
        """Times of the most recent frames, in seconds."""
        return list(self._recent)

    def percentile(self, percent: float) -> float:
        """Of the most recent frames, in seconds; 0 when nothing was measured."""
        return float(np.percentile(self._recent, percent)) if self._recent else 0.0

    def as_dict(self) -> dict[str, float]:
        """Milliseconds, rounded for reading: percentiles of the recent times, the longest and the first of all."""
        return {**percentiles(self._recent), "max_ms": _ms(self.longest), "first_ms": _ms(self.first)}


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """Summarize times, in milliseconds, rounded for reading; zeros when there are none."""
    p50, p95, p99, longest = np.percentile(seconds or [0.0], [50, 95, 99, 100])
    return {"p50_ms": _ms(p50), "p95_ms": _ms(p95), "p99_ms": _ms(p99), "max_ms": _ms(longest)}


def _ms(seconds: float) -> float:
    return round(1000 * float(seconds), 3)


@dataclass(repr=False)
class Stats:
    """One run of `converse`."""

    encode: StageTimes = field(default_factory=StageTimes)
    generate: StageTimes = field(default_factory=StageTimes)
    decode: StageTimes = field(default_factory=StageTimes)
    tick: StageTimes = field(default_factory=StageTimes)  # of several people: until all have their replies
    queue_depths: dict[str, int] = field(default_factory=dict)  # the deepest each queue got
    seconds: float = 0.0  # wall-clock time of the whole run

    def __repr__(self) -> str:
        return f"<Stats: {self.summary()}>"

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Time the run, also one that is interrupted; a conversation that rests has several."""
        start = time.perf_counter() - self.seconds
        try:
            yield
        finally:
            self.seconds = time.perf_counter() - start

    @property
    def frames(self) -> int:
        """Frames that the model has generated."""
        return self.generate.count

    @property
    def frames_per_second(self) -> float:
        """Frames per second of wall-clock time; 12.5 keep time."""
        return self.frames / self.seconds if self.seconds else 0.0

    @property
    def real_time_factor(self) -> float:
        """Seconds of work per second of audio; below 1 is faster than real time."""
        return self.seconds / (self.frames * FRAME_SECONDS) if self.frames else 0.0

    @property
    def stages(self) -> dict[str, StageTimes]:
        """The times of the three stages by name."""
        return {"encode": self.encode, "generate": self.generate, "decode": self.decode}

    def frame_seconds(self, threaded: bool) -> float:
        """What a frame costs lately: its slowest stage where all have a thread of their own, else all of them."""
        medians = [float(np.median(stage.recent[-LATELY:] or [0.0])) for stage in self.stages.values()]
        return max(medians) if threaded else sum(medians)

    def as_dict(self) -> dict[str, object]:
        """Everything, ready for JSON."""
        return {
            "frames": self.frames,
            "seconds": round(self.seconds, 3),
            "frames_per_second": round(self.frames_per_second, 2),
            "real_time_factor": round(self.real_time_factor, 4),
            "stages": {name: stage.as_dict() for name, stage in self.stages.items()},
            "queue_depths": self.queue_depths,
        }

    def summary(self) -> str:
        """One line for people."""
        return (
            f"{self.frames} frames in {self.seconds:.2f} s: {self.frames_per_second:.1f} frames/s "
            f"({FRAME_RATE} needed), real-time factor {self.real_time_factor:.2f}; median {self._medians()}"
        )

    def live_summary(self) -> str:
        """One line for people about a run that could not be faster than the microphone."""
        return f"{self.frames} frames in {self.seconds:.1f} s; median of the 80 ms of a frame: {self._medians()}"

    def _medians(self) -> str:
        return ", ".join(f"{name} {1000 * stage.percentile(50):.1f} ms" for name, stage in self.stages.items())
