"""Single keys from a terminal, without waiting for Enter."""

from __future__ import annotations

import os
import select
import sys
import threading
from collections.abc import Callable
from typing import Any


class Keys:
    """Calls `pressed` with every key typed while the block lasts, from a thread of its own.

    Where standard input is no terminal, nothing is read. Ctrl-C keeps its meaning.
    """

    def __init__(self, pressed: Callable[[str], None]) -> None:
        self._pressed = pressed
        self._before: list[Any] | None = None
        self._thread: threading.Thread | None = None
        self._wake = (-1, -1)

    def __enter__(self) -> Keys:
        if not sys.stdin.isatty():
            return self
        import termios
        import tty

        self._input = sys.stdin.fileno()
        self._before = termios.tcgetattr(self._input)
        tty.setcbreak(self._input)
        self._wake = os.pipe()
        self._thread = threading.Thread(target=self._read, name="keys", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._thread is None:
            return
        import termios

        os.write(self._wake[1], b".")
        self._thread.join()
        for end in self._wake:
            os.close(end)
        termios.tcsetattr(self._input, termios.TCSADRAIN, self._before or [])
        self._thread = None

    def _read(self) -> None:
        while True:
            ready, _, _ = select.select([self._input, self._wake[0]], [], [])
            if self._wake[0] in ready:
                return
            typed = os.read(self._input, 64)
            if not typed:
                return  # the terminal has gone
            for key in typed.decode("utf-8", "ignore"):
                self._pressed(key)
