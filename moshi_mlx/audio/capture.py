"""The way of samples from the callbacks of microphone and speaker to a thread, as frames side by side.

microphone ─► tap ─┐
                   ├─► aligner ─► frames       tap: ring ─► resampler
speaker ─────► tap ┘

PortAudio calls back on threads of its own and loses sound where a callback is late. So a callback only copies into
a ring; what else is done with the samples is done by the thread that it wakes.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from moshi_mlx.frames import FRAME_SAMPLES, SAMPLE_RATE

RING_SECONDS = 2

# Of `FrameAligner`, in samples. The far end is held back a little, for its callbacks may be late; but by less than
# sound needs through two devices, else an echo would come before what it is an echo of.
BLOCK = SAMPLE_RATE // 50  # of one callback
MARGIN = BLOCK // 2
TOLERANCE = BLOCK  # by which the far end may be off before it is aligned anew
PATIENCE = 2 * BLOCK  # of near end that wait for a late far end before it counts as stopped
WINDOW = 50  # callbacks over which it is judged: one second, in which bursts come and go


class FramePair(NamedTuple):
    """A frame of the microphone beside what the speaker played at that time, as an echo canceller needs them."""

    near: np.ndarray  # (1920,) float32, microphone
    far: np.ndarray  # (1920,) float32, speaker
    captured: float  # perf_counter when the last sample of `near` came


class Capture:
    """What the microphone hears and the speaker plays, through one `Tap` each, for one thread."""

    def __init__(self) -> None:
        self._wakeup = Wakeup()
        self.microphone, self.played = Tap(self._wakeup), Tap(self._wakeup)
        self._aligner = FrameAligner()
        self._closed = False

    def __iter__(self) -> Iterator[FramePair]:
        """Yield frames as they fill, until `close`."""
        while self._wakeup.wait() and not self._closed:
            near, far, now = self.microphone.read(), self.played.read(), time.perf_counter()
            for heard, played in self._aligner.add(near, far):
                yield FramePair(heard, played, now - self._aligner.waiting / SAMPLE_RATE)

    def close(self) -> None:
        """End the iteration; from any thread."""
        self._closed = True
        self._wakeup.set()


class Tap:
    """What a device's callback hears, or plays, for a thread, at 24 kHz.

    `fill` is called by the device, `read` by one thread, which `wakeup` wakes.
    """

    def __init__(self, wakeup: Wakeup) -> None:
        self.sounds = 0  # reads that held anything but digital silence
        self.cleaned = 0  # samples that were no numbers, made silent
        self._wakeup = wakeup
        self.prepare(SAMPLE_RATE)

    def prepare(self, rate: int) -> None:
        """Be ready for a device of this rate, Hz, before it calls back for the first time."""
        # One assignment, so that `read`, on its thread, finds a ring and a resampler that belong together.
        self._path = SampleRing(RING_SECONDS * rate), StreamResampler(rate, SAMPLE_RATE)
        self.dead_seconds = 0.0  # of nothing but digital silence, until now

    def fill(self, block: np.ndarray) -> None:
        """Take (samples, channels) float32 at the device's rate, and wake the thread."""
        self._path[0].write(block[:, 0] if block.shape[1] == 1 else block.mean(axis=1))
        self._wakeup.set()

    def read(self) -> np.ndarray:
        """Return the samples since the last call: (samples,) float32 at 24 kHz, the mean of all channels."""
        ring, resample = self._path
        pcm = ring.read()
        if not (finite := np.isfinite(pcm)).all():  # one would deafen the resampler, and the model for its window
            self.cleaned += int((~finite).sum())
            pcm[~finite] = 0.0
        if pcm.any():
            self.sounds += 1
            self.dead_seconds = 0.0
        else:
            self.dead_seconds += len(pcm) / resample.rate
        return resample(pcm)


class FrameAligner:
    """Cuts the streams of microphone and speaker into frames side by side.

    An echo is in `near`, the microphone, some tens of milliseconds after it was in `far`, the speaker at the
    moment its device was handed the samples: the sound goes through buffers and air. The aligner keeps this delay
    the same until a stream stops or loses samples, or the clocks of the devices have drifted apart; then the far
    end is aligned anew, which `realignments` counts. A speaker that does not run counts as silence.
    """

    def __init__(self) -> None:
        self._near = self._far = np.zeros(0, dtype=np.float32)
        self._aligned = False
        self._ahead: deque[int] = deque(maxlen=WINDOW)  # samples of far end beyond the near end, at each callback
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
            elif len(self._ahead) == WINDOW:
                off = round(float(np.median(self._ahead))) - MARGIN - BLOCK // 2
                if abs(off) > TOLERANCE:
                    self._align(off)
            if len(self._far) < FRAME_SAMPLES:
                if len(self._near) < FRAME_SAMPLES + PATIENCE:
                    return
                self._far = np.pad(self._far, (0, FRAME_SAMPLES - len(self._far)))
                self._aligned = False
            pair = self._near[:FRAME_SAMPLES], self._far[:FRAME_SAMPLES]
            self._near, self._far = self._near[FRAME_SAMPLES:], self._far[FRAME_SAMPLES:]
            yield pair

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

    Source: soxr's "HQ" streaming resampler. It works in blocks, so that it holds back 4 to 38 ms, 20 on the mean.
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
