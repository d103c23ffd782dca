"""Showing words as they are spoken: on a terminal, in a pipe, or as JSON lines."""

from __future__ import annotations

import json
import sys
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from moshi_mlx.runtime.session import Reply


class JsonLines:
    """A sink that prints one JSON object a line, as it happens."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, reply: Reply) -> None:
        if reply.text:
            self.emit("text", t=round(reply.time, 3), text=reply.text)

    def emit(self, event: str, **values: object) -> None:
        self._stream.write(json.dumps({"event": event, **values}) + "\n")  # at once: threads emit, too
        self._stream.flush()


class PlainText:
    """A sink that prints the words as they come, for logs and pipes."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._started = False

    def write(self, reply: Reply) -> None:
        text = reply.text if self._started else reply.text.lstrip()
        if text:
            self._started = True
            self._stream.write(text)
            self._stream.flush()

    def __enter__(self) -> PlainText:
        return self

    def end_line(self) -> None:
        """Something else will be printed there."""
        if self._started:
            self._stream.write("\n")
            self._started = False

    def __exit__(self, *exc_info: object) -> None:
        self.end_line()


class Terminal:
    """A sink that shows the latest words and a progress bar on the terminal at stderr, and at the end all words.

    total: frames that will come.
    """

    TAIL = 240  # characters shown while it goes on: a display taller than the screen could not be redrawn

    def __init__(self, total: int) -> None:
        from rich.console import Console, Group
        from rich.live import Live
        from rich.progress import Progress
        from rich.text import Text

        from moshi_mlx.weights.progress import columns

        self._pieces: list[str] = []
        self._text = Text()
        self._progress = Progress(*columns("frames"))
        self._task = self._progress.add_task("", total=total)
        console = Console(stderr=True)
        self._live = Live(
            Group(self._text, self._progress), console=console, refresh_per_second=10, transient=True
        )
        self._console = console

    def write(self, reply: Reply) -> None:
        if reply.text:
            self._pieces.append(reply.text)
            self._text.plain = (self._text.plain + reply.text)[-self.TAIL :]
        self._progress.advance(self._task)

    def __enter__(self) -> Terminal:
        self._live.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._live.stop()
        if words := "".join(self._pieces).strip():
            self._console.print(words, markup=False, highlight=False)


def shown_words(total: int, quiet: bool) -> AbstractContextManager[Terminal | PlainText | None]:
    """Choose the sink for stderr that fits; none when quiet. total: frames that will come."""
    if quiet:
        return nullcontext()
    return Terminal(total) if sys.stderr.isatty() else PlainText(sys.stderr)
