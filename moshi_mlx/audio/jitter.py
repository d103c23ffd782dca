"""The jitter buffer before the speaker: replies of 80 ms come when they come, the device takes 20 ms every 20 ms.

It delays what is played by a cushion, so that a reply may be late by as much and no gap is heard, and keeps that
cushion as small as the lateness allows:

* Audio that comes after a pause of half a second or more waits for the length of the cushion.
* If a reply is so late that the audio ends before it, that is an underrun, and the cushion grows by a step, 20 ms.
  The gap has already made all that follows later, so one step of silence is enough before it.
* If for 10 s, in every second of them, more than a step was left at the least, the cushion shrinks by a step.
* Audio that waits beyond the cushion only makes replies later. What a reply found before it at most, in a second,
  less the cushion, is left out in pauses of the voice, a step at a time. If there is more than the ceiling and a
  frame, the oldest is left out at once, down to the cushion and a frame. `overrun` counts both.

The web page has the same rules (web/page/worklets/jitter.js); tests/web/test_page_sound.py holds them together.
"""

from __future__ import annotations

import numpy as np

from moshi_mlx.audio.capture import SampleRing
from moshi_mlx.frames import FRAME_SECONDS

STEP = 0.02  # seconds by which the cushion grows and shrinks
START, LARGEST = 2, 16  # steps: 40 and 320 ms
CALM = 10.0  # seconds without need of the last step, after which it goes
LOOK = 1.0  # seconds over which the least that waited is taken
INAUDIBLE = 0.01  # peak below which 20 ms can be left out unheard
INTERRUPTION = 0.5  # seconds without audio that are no lateness: nobody spoke, or the microphone was gone
_CAPACITY = 2.0  # seconds


class JitterBuffer:
    """Audio between a writer that is sometimes late and a device that never waits.

    One thread calls `write`, the device's callback `read_into`; everything else may be read from any thread.
    `cushion`, the audio that is still there when a reply comes in time, and all other sizes are samples at `rate`.
    """

    def __init__(self, rate: int, cushion: float = START * STEP, trims: bool = True) -> None:
        """rate: Hz. cushion: seconds to begin with, rounded down to whole steps.

        trims: whether pauses give way to audio that waits; where nobody is answered, being late costs nothing.
        """
        self.rate = rate
        self._trims = trims
        self._step = round(rate * STEP)
        self._frame = round(rate * FRAME_SECONDS)
        self._ring = SampleRing(round(rate * _CAPACITY))
        self.cushion = self._steps(cushion)
        self.ceiling = LARGEST * self._step
        self.underruns = 0
        self._left_out = 0
        self._gap: int | None = round(rate * INTERRUPTION)  # silence since the audio ended; None while it plays
        self._before = 0  # silence still to come before the audio that is there
        self._calm = 0  # samples since the last step was needed
        self._least = self._looked = 0  # samples: the least that waited, and of how long a time
        self._most = 0  # samples that waited when a reply came, at most
        self._spare = 0  # samples to leave out when it is quiet

    @property
    def overrun(self) -> int:
        """Samples that were left out or overwritten, and never heard."""
        return self._left_out + self._ring.lost

    @property
    def delay(self) -> float:
        """Seconds until what is written now is heard, without the device's own."""
        before = self._before if self._gap is None else self._step
        return (before + self._ring.available) / self.rate

    def limit(self, seconds: float) -> None:
        """Keep no more than this as a cushion; the writer knows how much delay there is elsewhere."""
        self.ceiling = self._steps(seconds)

    def write(self, pcm: np.ndarray) -> None:
        """Add (samples,) float32 to what is played."""
        self._most = max(self._most, self._ring.available)
        self._ring.write(pcm)

    def read_into(self, out: np.ndarray) -> None:
        """Fill `out`, (samples,) float32, any number of them, with audio or silence."""
        if self._gap is not None:
            if not self._ring.available:
                self._gap += len(out)
                out[:] = 0
                return
            self._resume(self._gap)
        start = min(self._before, len(out))
        out[:start] = 0
        self._before -= start
        if start == len(out):
            return
        self._bound()
        end = start + self._ring.read_into(out[start:])
        if end < len(out):
            out[end:] = 0
            self._gap = len(out) - end
        else:
            self._adapt(out)

    def _resume(self, gap: int) -> None:
        """Begin to play again after a gap of this many samples."""
        late = gap < INTERRUPTION * self.rate
        self.underruns += late
        self.cushion = min(self.cushion + late * self._step, self.ceiling)
        # What came late has shifted the time of all that follows by as much: for now there is cushion enough.
        self._before = self._step if late else self.cushion
        self._gap = None
        self._calm = self._spare = self._looked = self._most = 0

    def _bound(self) -> None:
        """Leave out the oldest audio if there is more than the ceiling and a frame."""
        if self._ring.available > self.ceiling + self._frame:
            wanted = min(self.cushion, self.ceiling) + self._frame
            self._left_out += self._ring.skip(self._ring.available - wanted)
            self._spare = self._looked = self._most = 0

    def _adapt(self, out: np.ndarray) -> None:
        """Learn from what is left how much of the cushion is needed, and leave out what is too much in a pause."""
        if self._spare and np.abs(out).max() < INAUDIBLE:
            left_out = self._ring.skip(min(self._spare, self._step, len(out)))
            self._left_out += left_out
            self._spare -= left_out
            self._looked = self._most = 0
            return
        self._least = min(self._least, self._ring.available) if self._looked else self._ring.available
        self._looked += len(out)
        if self._looked < LOOK * self.rate:
            return
        self._looked = 0
        # A callback takes one step at a time: with no more than that left, the next reply comes just in time.
        self._calm = self._calm + round(LOOK * self.rate) if self._least > self._step else 0
        if self._calm >= CALM * self.rate and self.cushion > self._step:
            self.cushion -= self._step
            self._calm = 0
        spare, self._most = self._most - self.cushion, 0
        self._spare = spare if self._trims and spare >= self._step else 0

    def _steps(self, seconds: float) -> int:
        return max(1, min(LARGEST, int(seconds / STEP + 1e-6))) * self._step
