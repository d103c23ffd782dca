"""Cuts a client's audio into frames, and refuses audio that comes faster than it can have been spoken."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from moshi_mlx.errors import ProtocolError
from moshi_mlx.frames import FRAME_SAMPLES, SAMPLE_RATE, is_silent
from moshi_mlx.runtime.flow import HeardFrame

MAX_AHEAD = 2.0  # seconds of audio that a client may send before they have passed
_CREDIT = 10.0  # seconds that a network may stall and then bring at once
_DRIFT = 1.01  # a client's clock may be this much faster than ours, for hours


class Intake:
    """Takes samples in any portions and gives frames. max_ahead: seconds that a client may be ahead of time."""

    def __init__(self, max_ahead: float = MAX_AHEAD) -> None:
        self._max_ahead = max_ahead
        self._part = np.zeros(0, np.float32)  # less than a frame
        self._ahead = 0.0
        self._last: float | None = None

    def add(self, pcm: np.ndarray, now: float) -> Iterator[HeardFrame]:
        """Yield the frames that are complete with these samples, (n,) float32; what is no number becomes silence.

        now: seconds. Raises ProtocolError for a client that sends audio faster than time passes.
        """
        self._check_pace(len(pcm), now)
        pcm = np.clip(np.nan_to_num(pcm, posinf=0.0, neginf=0.0), -1.0, 1.0)
        pcm = np.concatenate([self._part, pcm])
        whole = len(pcm) - len(pcm) % FRAME_SAMPLES
        self._part = pcm[whole:]
        for start in range(0, whole, FRAME_SAMPLES):
            frame = pcm[start : start + FRAME_SAMPLES]
            yield HeardFrame(frame, now, is_silent(frame))

    def clear(self) -> None:
        """Forget the incomplete frame."""
        self._part = self._part[:0]

    def _check_pace(self, samples: int, now: float) -> None:
        passed = 0.0 if self._last is None else now - self._last
        self._last = now
        self._ahead = max(self._ahead - passed * _DRIFT, -_CREDIT) + samples / SAMPLE_RATE
        if self._ahead > self._max_ahead:
            raise ProtocolError(
                f"the audio is {self._ahead:.1f} s ahead of time: send it as fast as it is spoken, "
                f"at most {self._max_ahead:g} s ahead"
            )
