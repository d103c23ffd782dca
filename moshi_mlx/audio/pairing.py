"""What the microphone heard beside what the speaker played at that time, for an echo canceller."""

from collections.abc import Iterator

import numpy as np

from moshi_mlx.audio.frames import FRAME_SAMPLES, SAMPLE_RATE

_EMPTY = np.zeros(0, dtype=np.float32)
MARGIN = (
    SAMPLE_RATE // 100
)  # samples by which the far end is held back: its callbacks may be late; less than any echo
PATIENCE = SAMPLE_RATE // 25  # samples of near end that wait for a late far end, before it counts as stopped
DRIFT = 3 * SAMPLE_RATE // 50  # samples of far end too many, before the two are aligned anew


class EchoPairs:
    """Cuts two streams into frames side by side.

    near: the microphone; far: the speaker, at the moment it was handed to the device. An echo is in `near` some
    tens of milliseconds after it was in `far`, as the sound goes through buffers and air, and this delay stays
    the same until a stream stops or the clocks of the devices have drifted apart by more than `DRIFT`.
    `realigned` counts those times. A speaker that does not run counts as silence.
    """

    def __init__(self) -> None:
        self._near = self._far = _EMPTY
        self._aligned = False
        self.realigned = -1  # the first alignment is none

    def add(self, near: np.ndarray, far: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Take what has come since, both (samples,) float32 at 24 kHz; yields pairs of (1920,) frames."""
        self._near = np.concatenate([self._near, near])
        self._far = np.concatenate([self._far, far])[-SAMPLE_RATE:]
        while len(self._near) >= FRAME_SAMPLES:
            if not self._aligned or len(self._far) - len(self._near) > MARGIN + DRIFT:
                self._align()
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

    def _align(self) -> None:
        wanted = len(self._near) + MARGIN
        far = self._far[-wanted:]
        self._far = np.pad(far, (wanted - len(far), 0))
        self._aligned = True
        self.realigned += 1
