"""Showing words as they are spoken: on a terminal, in a pipe, or as JSON lines."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress import Progress
from rich.text import Text

from moshi_mlx.weights.progress import columns

if TYPE_CHECKING:
    from rich.console import RenderableType
    from typing_extensions import Self

    from moshi_mlx.runtime.reply import Reply


class JsonLines:
    """A sink that prints one JSON object a line, as it happens. common: values that every event has, too."""

    def __init__(self, stream: TextIO, **common: object) -> None:
        self._stream, self._common = stream, common

    def write(self, reply: Reply) -> None:
        """Print the words of one reply, with their time."""
        if reply.text:
            self.emit("text", t=round(reply.time, 3), text=reply.text)

    def emit(self, event: str, **values: object) -> None:
        """Print an event; from any thread."""
        self._stream.write(json.dumps({"event": event, **values, **self._common}) + "\n")  # in one piece
        self._stream.flush()


def say(line: str, quiet: bool = False) -> None:
    """Tell the person at the terminal, unless quiet."""
    if not quiet:
        print(line, file=sys.stderr, flush=True)


def tell(note: str, events: JsonLines | None = None) -> None:
    """Say what is not as the person may think, however quiet it should be."""
    say(f"note: {note}")
    if events:
        events.emit("note", text=note)


class PlainText:
    """A sink that prints the words as they come, for logs and pipes."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._started = False

    def write(self, reply: Reply) -> None:
        """Print the words of one reply."""
        text = reply.text if self._started else reply.text.lstrip()
        if text:
            self._started = True
            self._stream.write(text)
            self._stream.flush()

    def __enter__(self) -> PlainText:
        return self

    def end_line(self) -> None:
        """End the line, for something else will be printed."""
        if self._started:
            self._stream.write("\n")
            self._started = False

    def __exit__(self, *exc_info: object) -> None:
        self.end_line()


class LiveWords:
    """A sink that shows the latest words on a terminal, redrawn ten times a second.

    below: gives what is shown below the words at this moment.
    As a context manager it owns the lower part of the terminal; all words stay on the screen when it ends.
    """

    LINES = 8  # of words

    def __init__(self, console: Console, below: Callable[[], list[RenderableType]]) -> None:
        self._console, self._below = console, below
        self._lock = threading.Lock()
        self._words: list[str] = []  # all of the conversation
        self._latest = ""  # those that may still be shown; begins where a line begins
        self._live = Live(get_renderable=self.render, console=console, refresh_per_second=10, transient=True)

    def write(self, reply: Reply) -> None:
        """Add the words of one reply."""
        if reply.text:
            with self._lock:
                self._words.append(reply.text)
                self._latest = (self._latest + reply.text).lstrip()

    def new_conversation(self) -> None:
        """Let what was said so far move up and stay; new words begin on a new line."""
        with self._lock:
            text = "".join(self._words).strip()
            self._words, self._latest = [], ""
        if text:
            self._console.print(text, markup=False, highlight=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._live.stop()
        self.new_conversation()

    def render(self) -> RenderableType:
        """The display as it is now."""
        width = max(20, self._console.width)
        with self._lock:
            shown = Text(self._latest, overflow="fold").wrap(self._console, width)
            if len(shown) > 2 * self.LINES:  # wrapping an hour of words ten times a second would take a core
                for line in shown[: -self.LINES]:
                    self._latest = self._latest[len(line.plain.rstrip()) :].lstrip()
        return Group(*shown[-self.LINES :], *self._below())


class WordsAndProgress(LiveWords):
    """The latest words above a progress bar. total: frames that will come."""

    def __init__(self, total: int) -> None:
        self._progress = Progress(*columns("frames"))
        self._task = self._progress.add_task("", total=total)
        super().__init__(Console(stderr=True), lambda: [self._progress])

    def write(self, reply: Reply) -> None:
        """Add the words of one reply, and its frame to the bar."""
        super().write(reply)
        self._progress.advance(self._task)


def shown_words(total: int, quiet: bool) -> AbstractContextManager[WordsAndProgress | PlainText | None]:
    """Choose the sink for stderr that fits; none when quiet. total: frames that will come."""
    if quiet:
        return nullcontext()
    return WordsAndProgress(total) if sys.stderr.isatty() else PlainText(sys.stderr)
