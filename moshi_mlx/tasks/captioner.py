"""The words of a user who talks with a model, from a second model that works in the time the first one leaves.

The speech-to-text model is never waited for: it is given the time between the end of one step of the conversation
and the next frame, and where that is too little, frames are dropped and counted.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from moshi_mlx.frames import FRAME_SECONDS, silence
from moshi_mlx.tasks.speculation import SpeculativeDecoder
from moshi_mlx.tasks.transcribe import Transcriber, worthwhile_ahead
from moshi_mlx.tasks.words import Pause, Word

LATE_FRAMES = 50  # that may wait: what is said four seconds late is no caption any more
TOGETHER = 4  # frames of a pass, for catching up
MARGIN = 0.005  # seconds before the next frame in which nothing is begun
ADAPTED = 0.2  # share of the latest time in the estimate of what a frame or a pass takes,
OUTLIER = 2.0  # in which it counts as no more than so many times the estimate
FORGOTTEN = 0.002  # share by which the estimate falls when it leaves no time: it may be wrong


class Captioner:
    """The words of one user. `hear` may be called from any thread, `work` on the one that owns MLX.

    found: told of words and pauses, with times in seconds from the first frame of all, on the thread of `work`.
    ahead: frames of a pass; as many as pay, up to TOGETHER, unless given.
    `dropped` counts frames that were never heard.
    """

    def __init__(
        self,
        transcriber: Transcriber,
        found: Callable[[Word | Pause], None] = lambda event: None,
        clock: Callable[[], float] = time.perf_counter,
        ahead: int | None = None,
    ) -> None:
        moshi = transcriber.moshi
        self.dropped = 0
        self.found = found
        self._transcriber, self._clock = transcriber, clock
        ahead = ahead or min(TOGETHER, worthwhile_ahead(moshi.lm))
        self._decoder = SpeculativeDecoder(moshi.lm, ahead, kv_bits=moshi.kv_bits)
        self._stream = moshi.codec.stream()
        self._codebooks = moshi.lm.config.input_codebooks
        self._lock = threading.Lock()  # of the five below, and of `dropped`
        self._frames: deque[np.ndarray] = deque()
        self._count = 0  # frames that came
        self._missed = 0  # frames dropped before those that wait
        self._restart = False
        self._coming: Callable[[Word | Pause], None] | None = None  # who is told after the restart, if another
        self._base = 0.0  # seconds at which the conversation at hand began
        self._begin()
        self._seconds = self._measured()

    @property
    def complete(self) -> float:
        """Seconds up to which all words are known."""
        return self._base + self._words.complete

    @property
    def waiting(self) -> int:
        """Frames that were not heard yet."""
        with self._lock:
            return len(self._frames)

    def hear(self, frame: np.ndarray) -> None:
        """Take the next frame, (1920,) float32; where too many wait, the oldest is dropped."""
        with self._lock:
            self._count += 1
            self._frames.append(frame)
            if len(self._frames) > LATE_FRAMES:
                self._frames.popleft()
                self._missed += 1
                self.dropped += 1

    def reset(self) -> None:
        """Begin a new conversation with the next frame, while times go on; from any thread."""
        with self._lock:
            self._restart_locked()

    def start(self, found: Callable[[Word | Pause], None]) -> None:
        """Begin with the next frame for somebody else, times and `dropped` at 0; from any thread.

        found: as of the class. What is at hand still belongs to the one before, who alone is told of it.
        """
        with self._lock:
            self._restart_locked()
            self._count = self.dropped = 0
            self._coming = found

    def work(self, until: float) -> None:
        """Do what can be done before a time of the clock: never begin what would probably take longer."""
        while self.advance(until):
            pass

    def advance(self, until: float) -> bool:
        """As `work`, but one frame or one pass at most; return whether anything was done."""
        with self._lock:
            restart, self._restart = self._restart, False
            coming, self._coming = self._coming, None
            waiting = len(self._frames)
            began = (self._count - waiting) * FRAME_SECONDS
        if restart:
            self.found = coming or self.found
            self._base = began
            self._stream.reset_encoder()
            self._begin()
        to_encode = self._settling + waiting
        read = bool(self._reading.waiting and (not to_encode or self._reading.waiting >= self._decoder.ahead))
        if not (read or to_encode):
            return False
        now = self._clock()
        if now + self._seconds[read] > until - MARGIN:
            self._seconds[read] *= 1 - FORGOTTEN
            return False
        if read:
            self._read()
        else:
            self._encode()
        taken = min(self._clock() - now, OUTLIER * self._seconds[read])
        self._seconds[read] += ADAPTED * (taken - self._seconds[read])
        return True

    def close(self) -> None:
        """Give back what the codec holds."""
        self._stream.close()

    def _begin(self) -> None:
        self._reading, self._words = self._decoder.begin(), self._transcriber.live_words()
        self._settling = self._transcriber.settling  # frames of silence that are still to be heard first

    def _restart_locked(self) -> None:
        self._frames.clear()
        self._missed, self._restart = 0, True

    def _encode(self) -> None:
        if self._settling:
            self._settling -= 1
            self._reading.add(self._stream.encode(silence())[: self._codebooks])
            return
        with self._lock:
            if not self._frames:  # a reset came between
                return
            frame = self._frames.popleft()
            missed, self._missed = self._missed, 0
        if missed:
            self._tell(self._words.skip(missed))
        self._reading.add(self._stream.encode(frame)[: self._codebooks])

    def _read(self) -> None:
        for heard in self._reading.advance():
            self._tell(self._words.push(heard.text_id, heard.vad))

    def _tell(self, events: Sequence[Word | Pause]) -> None:
        for event in events:
            if isinstance(event, Word):
                self.found(replace(event, start=self._base + event.start, end=self._base + event.end))
            else:
                self.found(replace(event, time=self._base + event.time))

    def _measured(self) -> list[float]:
        """Warm up, and return the seconds of encoding a frame and of a pass; then begin anew."""
        seconds = [0.0, 0.0]
        for _ in range(2):  # the first one compiles
            start = self._clock()
            self._reading.add(self._stream.encode(silence())[: self._codebooks])
            middle = self._clock()
            self._reading.advance()
            seconds = [middle - start, self._clock() - middle]
        self._stream.reset_encoder()
        self._begin()
        return seconds
