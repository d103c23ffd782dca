"""Samples on their way between an audio callback and a thread."""

import numpy as np


class SampleRing:
    """Samples from one writer to one reader, without a lock: neither ever waits for the other.

    The writer always finds room: what the reader leaves for too long is written over, and counted in `lost`.
    capacity: samples that can wait; a third more is allocated, so that what is being read is not being written.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._samples = np.zeros(capacity + capacity // 3 + 1, dtype=np.float32)
        self._written = 0  # since the beginning; only the writer sets it
        self._read = 0  # only the reader sets it
        self.lost = 0

    def write(self, pcm: np.ndarray) -> None:
        """Add (samples,) float32, no more than `capacity` at once."""
        size = len(self._samples)
        start = self._written % size
        first = min(len(pcm), size - start)
        self._samples[start : start + first] = pcm[:first]
        self._samples[: len(pcm) - first] = pcm[first:]
        self._written += len(pcm)  # last, so that the reader sees only samples that are there

    @property
    def available(self) -> int:
        """Samples that wait, for the reader."""
        return min(self._written - self._read, self._capacity)

    def read_into(self, out: np.ndarray) -> int:
        """Move the oldest samples to the front of `out`, (samples,) float32. Returns how many there were."""
        count = min(self._catch_up(), len(out))
        size = len(self._samples)
        start = self._read % size
        first = min(count, size - start)
        out[:first] = self._samples[start : start + first]
        out[first:count] = self._samples[: count - first]
        self._read += count
        return count

    def read(self) -> np.ndarray:
        """All that waits, (samples,) float32."""
        out = np.empty(self._catch_up(), dtype=np.float32)
        return out[: self.read_into(out)]

    def skip(self, samples: int) -> int:
        """Forget up to `samples` of the oldest. Returns how many there were."""
        count = min(self._catch_up(), samples)
        self._read += count
        return count

    def _catch_up(self) -> int:
        late = self._written - self._read - self._capacity
        if late > 0:
            self.lost += late
            self._read += late
        return self._written - self._read
