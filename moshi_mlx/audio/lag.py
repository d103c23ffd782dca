"""Keeping a conversation live when the model is slower than real time: some frames have to go unheard."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from moshi_mlx.frames import FRAME_SECONDS

LAG_LIMIT = 0.4  # seconds from mouth to ear
SILENCE_DB = -45.0  # dBFS; a frame below it holds no speech
_AHEAD = 2  # frames handed over and not answered, at most: one in the model, one on its way through the codec
_SMOOTHING = 0.5  # of the time a frame takes: half of it is the last frame's
_SLOWEST = 2 * FRAME_SECONDS  # a single hiccup counts as no more than this
_FORGOTTEN = 2.0  # seconds after which a frame without an answer is no longer waited for


class HeardFrame(NamedTuple):
    """One frame of the microphone."""

    pcm: np.ndarray  # (1920,) float32
    captured: float  # time at which its last sample came, in seconds of the clock in use
    silent: bool


class LagGovernor:
    """Says which frames to hand to the model and which to drop, so that answers keep within `limit` seconds.

    It hears of every frame handed over (`taken`) and every answer (`answered`), learns from them how long a frame
    takes (`pace`), and foresees when the next ones would be heard. When the model keeps up it drops nothing.
    All times are seconds of one clock, given by the caller; `overhead` is what a frame costs besides waiting and
    model: its own length, the devices, the cushion before the speaker.
    """

    def __init__(self, limit: float = LAG_LIMIT, overhead: float = FRAME_SECONDS) -> None:
        self.limit = limit
        self.overhead = overhead
        self.pace = FRAME_SECONDS
        self._unanswered: deque[tuple[float, float]] = deque()  # captured, taken
        self._last_answer = 0.0

    def taken(self, captured: float, now: float) -> None:
        """A frame went to the model."""
        self._unanswered.append((captured, now))

    def answered(self, now: float) -> float:
        """The oldest frame that was taken has its answer. Returns the seconds since it was captured."""
        if not self._unanswered:
            return 0.0
        captured, _ = self._unanswered[0]
        took = min(now - self._began(), _SLOWEST)
        self.pace += _SMOOTHING * (took - self.pace)
        self._unanswered.popleft()
        self._last_answer = now
        return now - captured

    def may_take(self, frame: HeardFrame, now: float) -> bool:
        """Whether to hand over this frame now, or to hold it back where it can still be dropped."""
        if self._unanswered and now - self._unanswered[0][1] > _FORGOTTEN:
            self._unanswered.clear()
        return not self._unanswered or (
            len(self._unanswered) < _AHEAD and self._lag(0, frame.captured, now) <= self.limit
        )

    def drop(self, waiting: Sequence[HeardFrame], now: float) -> int | None:
        """Which of the waiting frames to drop, None for none: the oldest silent one first, then the oldest.

        The newest is dropped only for another that is still in time, so that something is heard whatever happens.
        """
        last = len(waiting) - 1
        if last < 1 or self._lag(last, waiting[last].captured, now) <= self.limit:
            return None
        silent = next((index for index, frame in enumerate(waiting) if frame.silent), 0)
        if silent == last and self._lag(last - 1, waiting[last - 1].captured, now) > self.limit:
            return 0
        return silent

    def _lag(self, before: int, captured: float, now: float) -> float:
        """Seconds from capture to ear of a frame that has `before` others waiting before it."""
        free = now  # when the model is free for the first that waits
        if self._unanswered:
            free = max(now, self._began() + self.pace) + (len(self._unanswered) - 1) * self.pace
        return free + (before + 1) * self.pace - captured + self.overhead

    def _began(self) -> float:
        """When the work on the oldest unanswered frame began."""
        return max(self._last_answer, self._unanswered[0][1])


def is_silent(pcm: np.ndarray) -> bool:
    """Whether a frame, (samples,) float32, holds no speech."""
    return level(pcm) < SILENCE_DB


def level(pcm: np.ndarray) -> float:
    """Loudness of (samples,) float32, in dB relative to a full-scale square wave; -120 for digital silence."""
    if not len(pcm):
        return -120.0
    return max(-120.0, 10 * float(np.log10(np.mean(np.square(pcm, dtype=np.float64)) + 1e-12)))
