"""One channel of many: what a model hears of a recording in stereo, or of an interface of many inputs."""

import math
from collections.abc import Iterable, Iterator

import numpy as np

from moshi_mlx.errors import AudioFileError

_SILENT = 1e-6  # of the loudest channel's energy: 60 dB below it
_CANCELLED = (
    0.05  # of the loudest channel's energy left in the mean; two alike leave all, two unlike a half or more
)
_FEW = 4  # channels; with more, the layout may be a room's, and the mean stays what it is
_LOUD = 4.0  # times full scale: beyond any recording that is only hot


class MixDown:
    """Makes one channel of many: the mean, without the silent ones among up to four.

    What is to be made is known only when all has been added. What was added is kept until `forget`; after that it
    is given again, block by block, to `mixed`.
    """

    def __init__(self, channels: int, name: str) -> None:
        self.samples = 0
        self._name = name
        self._sums: list[np.ndarray] = []  # of all channels, (samples,) float32
        self._loudest: list[np.ndarray] = []  # the loudest channel so far; none of a single one
        self._energy = np.zeros(channels)
        self._mean_energy = 0.0
        self._peak = 0.0
        self._kept = True
        self._silent = 0
        self._cancels = False

    def add(self, block: np.ndarray, rate: int) -> None:
        """Take (samples, channels) float32. Raises AudioFileError for NaN and infinite samples."""
        bad = ~np.isfinite(block).all(axis=1)
        if bad.any():
            first = int(bad.argmax())
            value = next(v for v in block[first] if not np.isfinite(v))
            at = self.samples + first
            raise AudioFileError(
                f"{self._name} has a sample that is no number: {value} at sample {at} ({at / rate:.3f} s)"
            )
        self.samples += len(block)
        self._energy += np.square(block, dtype=np.float64).sum(axis=0)
        self._peak = max(self._peak, float(np.abs(block).max(initial=0.0)))
        mean = block.mean(axis=1)
        self._mean_energy += float(np.square(mean, dtype=np.float64).sum())
        if not self._kept:
            return
        self._sums.append(mean)
        if block.shape[1] > 1:
            self._loudest.append(block[:, int(self._energy.argmax())].copy())  # a view would keep all channels

    def forget(self) -> None:
        """Keep nothing of what was added and is to come but what `mixed` and `notes` need."""
        self._kept = False
        self._sums, self._loudest = [], []

    def decide(self) -> None:
        """Decide what the mix is, now that all was added."""
        loudest = self._energy.max()
        if len(self._energy) > 1 and loudest:
            self._silent = int((self._energy < loudest * _SILENT).sum())
            self._cancels = self._mean_energy < loudest * _CANCELLED and not self._silent

    def mono(self) -> np.ndarray:
        """The whole mix, (samples,) float32; after `decide`, and not after `forget`."""
        return np.concatenate(self._loudest) if self._cancels else self._scaled(np.concatenate(self._sums))

    def mixed(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Mix (samples, channels) blocks that are given once more, from the first; after `decide`."""
        energy = np.zeros_like(self._energy)
        for block in blocks:
            if self._cancels:
                energy += np.square(block, dtype=np.float64).sum(axis=0)
                yield block[:, int(energy.argmax())]
            else:
                yield self._scaled(block.mean(axis=1))

    def _scaled(self, mean: np.ndarray) -> np.ndarray:
        channels = len(self._energy)
        few = self._silent and channels <= _FEW
        return mean * np.float32(channels / (channels - self._silent)) if few else mean

    def notes(self) -> Iterator[str]:
        """What a person should know of the recording; after `decide`."""
        channels = len(self._energy)
        if self._cancels:
            yield f"the channels of {self._name} cancel each other: only the loudest is heard"
        elif self._silent and channels > _FEW:
            yield (
                f"{self._silent} of {channels} channels of {self._name} are silent, so their mean is "
                f"{20 * math.log10(channels / (channels - self._silent)):.0f} dB quieter than the others"
            )
        if self._peak > _LOUD:
            yield (
                f"{self._name} peaks at {self._peak:,.0f} times full scale: float samples are expected "
                "between -1 and 1; divide them, for example by 32768"
            )
