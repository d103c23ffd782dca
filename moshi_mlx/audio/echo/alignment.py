"""What the microphone heard beside what the speaker played at that time, for an echo canceller."""

from collections import deque
from collections.abc import Iterator

import numpy as np

from moshi_mlx.frames import FRAME_SAMPLES, SAMPLE_RATE

_EMPTY = np.zeros(0, dtype=np.float32)
_BLOCK = SAMPLE_RATE // 50  # samples of one callback
# All below are samples. The far end is held back a little, for its callbacks may be late; but by less than sound
# needs through two devices, else an echo would come before what it is an echo of.
MARGIN = _BLOCK // 2
TOLERANCE = _BLOCK  # by which the far end may be off before it is aligned anew
PATIENCE = 2 * _BLOCK  # of near end that wait for a late far end before it counts as stopped
_WINDOW = 50  # callbacks over which it is judged: one second, in which bursts come and go


class FrameAligner:
    """Cuts the streams of microphone and speaker into frames side by side.

    An echo is in `near`, the microphone, some tens of milliseconds after it was in `far`, the speaker at the
    moment its device was handed the samples: the sound goes through buffers and air. The aligner keeps this delay
    the same until a stream stops or loses samples, or the clocks of the devices have drifted apart; then the far
    end is aligned anew, which `realignments` counts. A speaker that does not run counts as silence.
    """

    def __init__(self) -> None:
        self._near = self._far = _EMPTY
        self._aligned = False
        self._ahead: deque[int] = deque(maxlen=_WINDOW)  # samples of far end beyond the near end, at each callback
        self.realignments = -1  # the first alignment is none

    def add(self, near: np.ndarray, far: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Take what has come since the last call, both (samples,) float32 at 24 kHz; yield pairs of frames."""
        self._near = np.concatenate([self._near, near])
        self._far = np.concatenate([self._far, far])[-SAMPLE_RATE:]
        if len(near):
            self._ahead.append(len(self._far) - len(self._near))
        while len(self._near) >= FRAME_SAMPLES:
            if not self._aligned:
                self._align(len(self._far) - len(self._near) - MARGIN)
            elif len(self._ahead) == _WINDOW:
                off = round(float(np.median(self._ahead))) - MARGIN - _BLOCK // 2
                if abs(off) > TOLERANCE:
                    self._align(off)
            if len(self._far) < FRAME_SAMPLES:
                if len(self._near) < FRAME_SAMPLES + PATIENCE:
                    return
                self._far = np.pad(self._far, (0, FRAME_SAMPLES - len(self._far)))
                self._aligned = False
            yield self._near[:FRAME_SAMPLES], self._far[:FRAME_SAMPLES]
            self._near, self._far = self._near[FRAME_SAMPLES:], self._far[FRAME_SAMPLES:]

    @property
    def waiting(self) -> int:
        """Samples of the microphone that are in no frame yet."""
        return len(self._near)

    def _align(self, surplus: int) -> None:
        """Leave out this many of the far end's oldest samples, or put as much silence before them if negative."""
        self._far = self._far[surplus:] if surplus > 0 else np.pad(self._far, (-surplus, 0))
        self._ahead.clear()
        self._aligned = True
        self.realignments += 1
