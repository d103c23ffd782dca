"""The samples of a microphone, between the device's callback and the rest of the program."""

from __future__ import annotations

import numpy as np

from moshi_mlx.audio.resampling import StreamResampler
from moshi_mlx.audio.sample_ring import SampleRing
from moshi_mlx.audio.wakeup import Doorbell
from moshi_mlx.frames import SAMPLE_RATE

_RING_SECONDS = 2


class Microphone:
    """What a microphone hears. `fill` is for its callback, `read` for one thread, which `doorbell` wakes."""

    def __init__(self, doorbell: Doorbell) -> None:
        self._doorbell = doorbell
        self.prepare(SAMPLE_RATE)
        self.sounds = 0  # reads that held anything but digital silence, since the program began
        self.dead_seconds = 0.0  # of nothing but digital silence, until now

    def prepare(self, rate: int) -> None:
        """A device of this rate (Hz) comes next."""
        self._rate = rate
        self._path = SampleRing(_RING_SECONDS * rate), StreamResampler(rate, SAMPLE_RATE)
        self.dead_seconds = 0.0

    def fill(self, block: np.ndarray) -> None:
        """Take (samples, channels) float32 from the device."""
        self._path[0].write(block[:, 0] if block.shape[1] == 1 else block.mean(axis=1))
        self._doorbell.ring()

    def read(self) -> np.ndarray:
        """What was heard since the last call: (samples,) float32 at 24 kHz."""
        ring, resample = self._path
        pcm = ring.read()
        if pcm.any():
            self.sounds += 1
            self.dead_seconds = 0.0
        else:
            self.dead_seconds += len(pcm) / self._rate
        return resample(pcm)
