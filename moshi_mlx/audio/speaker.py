"""The samples of a speaker, between the rest of the program and the device's callback."""

from __future__ import annotations

import numpy as np

from moshi_mlx.audio.capture import StreamResampler
from moshi_mlx.audio.jitter import JitterBuffer
from moshi_mlx.audio.streams import Samples
from moshi_mlx.frames import SAMPLE_RATE

_RESAMPLED_CUSHION = 0.08  # seconds to begin with: a resampler holds back up to 40 ms, and not always the same


class Speaker:
    """What a speaker plays.

    `fill` is called by the device, `write` by one thread; everything else may be read from any thread.
    played: gets what the device was given, silence included. trims: as of `JitterBuffer`.
    """

    def __init__(self, played: Samples, trims: bool = True) -> None:
        self.volume = 1.0  # factor of what is written from now on; set from any thread
        self._played, self._trims = played, trims
        self._underruns, self._overrun = 0, 0.0  # of the devices before this one
        self._buffer = JitterBuffer(SAMPLE_RATE, trims=trims)
        self.prepare(SAMPLE_RATE)

    def prepare(self, rate: int) -> None:
        """Be ready for a device of this rate, Hz, which starts with the cushion of the last one."""
        cushion, self._underruns, self._overrun = self.cushion, self.underruns, self.overrun
        if rate != SAMPLE_RATE:
            cushion = max(cushion, _RESAMPLED_CUSHION)
        self._buffer = JitterBuffer(rate, cushion, self._trims)
        self._to_device = StreamResampler(SAMPLE_RATE, rate)
        self._played.prepare(rate)

    def fill(self, block: np.ndarray) -> None:
        """Give (samples, channels) float32 to the device, the same on all channels."""
        self._buffer.read_into(block[:, 0])
        block[:, 1:] = block[:, :1]
        self._played.fill(block[:, :1])

    def write(self, pcm: np.ndarray) -> None:
        """Play (samples,) float32 at 24 kHz after what was written before."""
        self._buffer.write(self._to_device(pcm if self.volume == 1.0 else pcm * np.float32(self.volume)))

    def limit(self, seconds: float) -> None:
        """Keep no more than this many seconds as a cushion against late replies."""
        self._buffer.limit(seconds)

    @property
    def delay(self) -> float:
        """Seconds until what is written now reaches the device."""
        return self._buffer.delay

    @property
    def cushion(self) -> float:
        """Seconds by which a reply may be late."""
        return self._buffer.cushion / self._buffer.rate

    @property
    def underruns(self) -> int:
        """How often the device wanted audio and there was none."""
        return self._underruns + self._buffer.underruns

    @property
    def overrun(self) -> float:
        """Seconds of replies that were never heard, because there was too much of them."""
        return self._overrun + self._buffer.overrun / self._buffer.rate
