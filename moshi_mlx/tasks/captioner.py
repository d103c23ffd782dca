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
ADAPTED = 0.2  # share of the latest time in the estimate of what a frame or a pass takes


class Captioner:
    """The words of one user. `hear` may be called from any thread, `work` on the one that owns MLX.

    found: told of words and pauses, with times in seconds from the first frame of all, on the thread of `work`.
    `dropped` counts frames that were never heard.
    """

    def __init__(
        self,
        transcriber: Transcriber,
        found: Callable[[Word | Pause], None] = lambda event: None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        moshi = transcriber.moshi
        self.dropped = 0
        self.found = found
        self._transcriber, self._clock = transcriber, clock
        ahead = min(TOGETHER, worthwhile_ahead(moshi.lm))
        self._decoder = SpeculativeDecoder(moshi.lm, ahead, kv_bits=moshi.kv_bits)
        self._stream = moshi.codec.stream()
        self._codebooks = moshi.lm.config.input_codebooks
        self._lock = threading.Lock()  # of the four below
        self._frames: deque[np.ndarray] = deque()
        self._count = 0  # frames that came
        self._missed = 0  # frames dropped before those that wait
        self._restart = False
        self._base = 0.0  # seconds at which the conversation at hand began
        self._begin()
        self._seconds = self._measured()

    @property
    def complete(self) -> float:
        """Seconds up to which all words are known."""
        return self._base + self._words.complete

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
        """Begin a new conversation with the next frame; from any thread."""
        with self._lock:
            self._frames.clear()
            self._missed, self._restart = 0, True

    def work(self, until: float) -> None:
        """Do what can be done before a time of the clock: never begin what would probably take longer."""
        while True:
            with self._lock:
                restart, self._restart = self._restart, False
                waiting = len(self._frames)
                began = (self._count - waiting) * FRAME_SECONDS
            if restart:
                self._base = began
                self._stream.reset_encoder()
                self._begin()
            read = self._reading.waiting and (not waiting or self._reading.waiting >= self._decoder.ahead)
            if not (read or waiting):
                return
            now = self._clock()
            if now + self._seconds[bool(read)] > until - MARGIN:
                return
            if read:
                self._read()
            else:
                self._encode()
            taken = self._clock() - now
            self._seconds[bool(read)] += ADAPTED * (taken - self._seconds[bool(read)])

    def close(self) -> None:
        """Give back what the codec holds."""
        self._stream.close()

    def _begin(self) -> None:
        self._reading, self._words = self._decoder.begin(), self._transcriber.words()

    def _encode(self) -> None:
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
