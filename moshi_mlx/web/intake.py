"""Cuts a client's audio into frames, and refuses audio that comes faster than it can have been spoken."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from moshi_mlx.frames import FRAME_SAMPLES, SAMPLE_RATE, is_silent
from moshi_mlx.runtime.flow import HeardFrame
from moshi_mlx.web.budget import OverBudget

MAX_AHEAD = 2.5  # seconds of audio that a client may send before they have passed: the longest chunk and some
MAX_FLOOD = 30.0  # seconds of audio too many, beyond which a flood is taken for lasting
_CREDIT = 10.0  # seconds that a network may stall and then bring at once
_DRIFT = 1.01  # a client's clock may be this much faster than ours, for hours


class Intake:
    """Takes samples in any portions and gives frames; what comes too far ahead of time is dropped and counted.

    flood: seconds dropped so. max_ahead: seconds that a client may be ahead of time.
    """

    def __init__(self, max_ahead: float = MAX_AHEAD) -> None:
        self.flood = 0.0
        self._max_ahead = max_ahead
        self._part = np.zeros(0, np.float32)  # less than a frame
        self._ahead = 0.0
        self._recent = 0.0  # of the flood, less the time that has passed since
        self._last: float | None = None

    def add(self, pcm: np.ndarray, now: float) -> Iterator[HeardFrame]:
        """Yield the frames that are complete with these samples, (n,) float32; what is no number becomes silence.

        now: seconds. Raises OverBudget for a client whose flood lasts.
        """
        pcm = pcm[: self._allowed(len(pcm), now)]
        pcm = np.clip(np.nan_to_num(pcm, posinf=0.0, neginf=0.0), -1.0, 1.0)
        pcm = np.concatenate([self._part, pcm])
        whole = len(pcm) - len(pcm) % FRAME_SAMPLES
        self._part = pcm[whole:]
        for start in range(0, whole, FRAME_SAMPLES):
            frame = pcm[start : start + FRAME_SAMPLES]
            yield HeardFrame(frame, now, is_silent(frame))

    def rest(self, now: float) -> HeardFrame | None:
        """Return the incomplete frame, filled up with silence; None where there is none."""
        part, self._part = self._part, self._part[:0]
        if not len(part):
            return None
        frame = np.pad(part, (0, FRAME_SAMPLES - len(part)))
        return HeardFrame(frame, now, is_silent(frame))

    def clear(self) -> None:
        """Forget the incomplete frame."""
        self._part = self._part[:0]

    def _allowed(self, samples: int, now: float) -> int:
        """Return how many of so many samples that came now are in time."""
        passed = 0.0 if self._last is None else now - self._last
        self._last = now
        self._ahead = max(self._ahead - passed * _DRIFT, -_CREDIT)
        seconds = samples / SAMPLE_RATE
        early = min(seconds, max(0.0, self._ahead + seconds - self._max_ahead))
        self._ahead += seconds - early
        self.flood += early
        self._recent = max(0.0, self._recent - passed) + early
        if self._recent > MAX_FLOOD:
            raise OverBudget(
                f"{self._recent:.0f} s of audio came ahead of time: send it as fast as it is spoken, at most "
                f"{self._max_ahead:g} s ahead"
            )
        return samples - round(early * SAMPLE_RATE)
