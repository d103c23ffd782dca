"""Captions for several people from one speech-to-text model, in the time that the model they talk with leaves.

Each has a `Captioner` of their own, made in advance, since a conversation must not wait for the making. The time
between two steps goes to whoever is furthest behind.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from moshi_mlx.tasks.captioner import TOGETHER, Captioner
from moshi_mlx.tasks.transcribe import Transcriber, worthwhile_ahead
from moshi_mlx.tasks.words import Pause, Word


class CaptionScheduler:
    """Captioners for up to `size` people at once. All but `work` and the making may be called from any thread.

    name: of the model, for people. transcriber: what writes, which others may use on the same thread.
    """

    def __init__(
        self, transcriber: Transcriber, size: int, name: str, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.name, self.transcriber = name, transcriber
        self._lock = threading.Lock()  # of the two below
        ahead = min(TOGETHER, worthwhile_ahead(transcriber.moshi.lm))
        self._free = [Captioner(transcriber, clock=clock, ahead=ahead) for _ in range(size)]
        self._busy: list[Captioner] = []

    def begin(self, found: Callable[[Word | Pause], None]) -> Captioner:
        """Return the captioner of somebody who begins to talk; `end` gives it back. found: as of `Captioner`."""
        with self._lock:
            captioner = self._free.pop()
            captioner.start(found)
            self._busy.append(captioner)
        return captioner

    def end(self, captioner: Captioner) -> None:
        """Take a captioner back."""
        with self._lock:
            self._busy.remove(captioner)
            self._free.append(captioner)

    def work(self, until: float) -> None:
        """Do what can be done before a time of the clock, as `Captioner.work`; on the thread that owns MLX."""
        while True:
            with self._lock:
                order = sorted(self._busy, key=lambda one: -one.waiting)
            if not any(one.advance(until) for one in order):
                return

    def close(self) -> None:
        """Give back what the codec holds."""
        for captioner in (*self._free, *self._busy):
            captioner.close()
