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
TOLERANCE = _BLOCK  # by which the far end may be off before the two are aligned anew
PATIENCE = 2 * _BLOCK  # of near end that wait for a late far end before it counts as stopped
_LOOK = 50  # callbacks over which it is judged: one second, in which bursts come and go


class EchoPairs:
    """Cuts two streams into frames side by side.

    near: the microphone; far: the speaker, at the moment it was handed to the device. An echo is in `near` some
    tens of milliseconds after it was in `far`, as the sound goes through buffers and air, and this delay stays
    the same until a stream stops or stumbles, or the clocks of the devices have drifted apart. `realigned` counts
    those times. A speaker that does not run counts as silence.
    """

    def __init__(self) -> None:
        self._near = self._far = _EMPTY
        self._aligned = False
        self._ahead: deque[int] = deque(maxlen=_LOOK)  # samples of far end beyond the near end, at each callback
        self.realigned = -1  # the first alignment is none

    def add(self, near: np.ndarray, far: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Take what has come since, both (samples,) float32 at 24 kHz; yields pairs of (1920,) frames."""
        self._near = np.concatenate([self._near, near])
        self._far = np.concatenate([self._far, far])[-SAMPLE_RATE:]
        if len(near):
            self._ahead.append(len(self._far) - len(self._near))
        while len(self._near) >= FRAME_SAMPLES:
            if not self._aligned:
                self._align(len(self._far) - len(self._near) - MARGIN)
            elif len(self._ahead) == _LOOK:
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
        """Samples of near end that are in no frame yet."""
        return len(self._near)

    def _align(self, too_many: int) -> None:
        """Leave out the oldest samples of the far end, or put silence before them."""
        self._far = self._far[too_many:] if too_many > 0 else np.pad(self._far, (-too_many, 0))
        self._ahead.clear()
        self._aligned = True
        self.realigned += 1
