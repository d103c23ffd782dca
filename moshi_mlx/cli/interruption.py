"""Ctrl-C while a conversation runs."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Interruption:
    """Whether Ctrl-C came."""

    def __init__(self) -> None:
        self.came = False


@contextmanager
def interruptible(stop: Callable[[], None]) -> Iterator[Interruption]:
    """While the block lasts, Ctrl-C (or SIGTERM) calls `stop` on a thread of its own, which should end the block.

    An exception could strike anywhere: between the two halves of a line, or where Python swallows it, as in a
    finalizer. Who is impatient and presses it again gets KeyboardInterrupt as ever. Only the main thread ever sees
    Ctrl-C; elsewhere nothing is changed.
    """
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return

    def handle(number: int, frame: object) -> None:
        if interruption.came:
            raise KeyboardInterrupt
        interruption.came = True
        # Not here: this thread may hold the very lock that stopping needs.
        threading.Thread(target=stop, name="moshi-stop", daemon=True).start()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
