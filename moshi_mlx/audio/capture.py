"""Samples on their way from an audio callback to a thread.

PortAudio calls back on threads of its own and loses sound where a callback is late. So a callback only copies into
a ring; what else is done with the samples is done by the thread that it wakes.
"""

import contextlib
import threading

import numpy as np

from moshi_mlx.frames import SAMPLE_RATE

RING_SECONDS = 2


class Capture:
    """What a device's callback hears, or plays, for one thread at 24 kHz.

    `fill` is called by the device, `read` by one thread, which `wakeup` wakes.
    """

    def __init__(self, wakeup: "Wakeup") -> None:
        self.sounds = 0  # reads that held anything but digital silence
        self._wakeup = wakeup
        self.prepare(SAMPLE_RATE)

    def prepare(self, rate: int) -> None:
        """Be ready for a device of this rate, Hz, before it calls back for the first time."""
        self._path = SampleRing(RING_SECONDS * rate), StreamResampler(rate, SAMPLE_RATE)  # at once, for `read`
        self.dead_seconds = 0.0  # of nothing but digital silence, until now

    def fill(self, block: np.ndarray) -> None:
        """Take (samples, channels) float32 at the device's rate, and wake the thread."""
        self._path[0].write(block[:, 0] if block.shape[1] == 1 else block.mean(axis=1))
        self._wakeup.set()

    def read(self) -> np.ndarray:
        """Return the samples since the last call: (samples,) float32 at 24 kHz, the mean of all channels."""
        ring, resample = self._path
        pcm = ring.read()
        if pcm.any():
            self.sounds += 1
            self.dead_seconds = 0.0
        else:
            self.dead_seconds += len(pcm) / resample.rate
        return resample(pcm)


class SampleRing:
    """Samples from one writer to one reader. Neither waits for the other.

    There is no lock, because the interpreter's own (the GIL) is enough: each side sets one counter, and the reader
    sees that of the writer move only after the samples are there. A Python without the GIL does not promise that.
    The writer always finds room: what the reader leaves for too long is overwritten, and counted in `lost`.
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
        """How many samples wait, for the reader."""
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
        """Return all samples that wait, (samples,) float32."""
        out = np.empty(self._catch_up(), dtype=np.float32)
        return out[: self.read_into(out)]

    def skip(self, samples: int) -> int:
        """Discard up to `samples` of the oldest. Returns how many there were."""
        count = min(self._catch_up(), samples)
        self._read += count
        return count

    def _catch_up(self) -> int:
        """Give up what is overwritten. Returns how many samples wait."""
        late = self._written - self._read - self._capacity
        if late > 0:
            self.lost += late
            self._read += late
        return self._written - self._read


class Wakeup:
    """Wakes one thread from a place that must never wait, such as an audio callback.

    A Condition would not do: whoever notifies must first get its lock, and may have to wait for a thread that was
    suspended while holding it. Set several times before the thread wakes, it wakes it once.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # held while there is nothing to wake for
        self._lock.acquire()

    def set(self) -> None:
        """Let the waiting thread go on, or the next that waits. Callable from any thread."""
        with contextlib.suppress(RuntimeError):  # set already, and nobody has woken yet
            self._lock.release()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until set, at most `seconds`. Returns whether it was."""
        return self._lock.acquire(timeout=-1 if seconds is None else max(0.0, seconds))


class StreamResampler:
    """A stream of samples from one rate to another; the same rate costs nothing.

    Source: soxr's "HQ" streaming resampler, which holds back about 20 ms.
    """

    def __init__(self, rate: int, new_rate: int) -> None:
        """rate, new_rate: Hz."""
        self.rate = rate
        self._stream = None
        if rate != new_rate:
            import soxr

            self._stream = soxr.ResampleStream(rate, new_rate, 1, dtype="float32", quality="HQ")

    def __call__(self, pcm: np.ndarray) -> np.ndarray:
        """Take the next (samples,) float32 of the stream, any number of them; return them at `new_rate`."""
        if self._stream is None or len(pcm) == 0:
            return pcm
        return self._stream.resample_chunk(np.ascontiguousarray(pcm, dtype=np.float32))
