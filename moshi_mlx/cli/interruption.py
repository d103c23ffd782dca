"""Ctrl-C while a conversation runs."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

INTERRUPTED = 130  # exit code after Ctrl-C
SIGNALS = (signal.SIGINT, signal.SIGTERM)
_END = b"\0"  # no signal has this number


@contextmanager
def undone(what: str | Callable[[], str]) -> Iterator[None]:
    """Let Ctrl-C in this block say what was done and what was not. what: those words, or what gives them then."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        if interrupt.args:
            raise  # a block within this one has said it
        raise KeyboardInterrupt(what if isinstance(what, str) else what()) from None


def told(interrupt: KeyboardInterrupt) -> str:
    """The line that tells of Ctrl-C."""
    return ": ".join(["interrupted", *map(str, interrupt.args)])


class Interruption:
    """Says whether Ctrl-C came."""

    def __init__(self) -> None:
        self.came = False


@contextmanager
def interruptible(stop: Callable[[], None]) -> Iterator[Interruption]:
    """Let Ctrl-C (or SIGTERM) call `stop`, on a thread of its own, to end the block.

    KeyboardInterrupt would not do. It could strike anywhere: between the two halves of a line, or where Python
    swallows it, as in a finalizer. And it may never come: the system may give a signal to any thread, and a main
    thread that waits for a lock then does not wake up (seen beside PortAudio's threads, when no frames came any
    more). Pressed again, it leaves the block at once, whatever that waits for. Only the main thread can do this;
    elsewhere nothing is changed.
    """
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def watch() -> None:
        while (came := os.read(reader, 1)) != _END:
            if came[0] in SIGNALS and not interruption.came:
                interruption.came = True
                stop()

    pressed: list[int] = []

    def press(number: int, frame: object) -> None:
        pressed.append(number)
        if len(pressed) > 1:
            raise KeyboardInterrupt

    watcher = threading.Thread(target=watch, name="moshi-interruption", daemon=True)
    watcher.start()
    before = {number: signal.signal(number, press) for number in SIGNALS}
    # Whichever thread gets the signal writes to it.
    other = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        with suppress(KeyboardInterrupt):  # pressed again
            yield interruption
    finally:
        signal.set_wakeup_fd(other)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.write(writer, _END)
        watcher.join()
        os.close(reader)
        os.close(writer)
