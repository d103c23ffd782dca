"""The live terminal of a conversation: words, levels, time per frame, and what was lost."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from moshi_mlx.session import Reply

KEYS = "m mute   space push-to-talk   r reset   q quit"
FRAME_MS = 80.0
_BAR = " ▁▂▃▄▅▆▇█"
_QUIET_DB, _LOUD_DB = -60.0, 0.0


@dataclass(frozen=True)
class Status:
    """What is shown below the words."""

    input_db: float  # level of the microphone, dBFS RMS
    output_db: float
    frame_ms: float  # time of one step of the model, of the 80 there are
    lag_ms: float  # from the microphone to the speaker beyond what the path always costs
    drops: int  # frames of the microphone that were thrown away to catch up
    underruns: int  # times the speaker had nothing to play
    echo: str  # "" where there is no canceller
    muted: bool
    note: str = ""  # the latest thing that happened


class Dashboard:
    """A sink that shows the latest words above a line of figures, redrawn ten times a second.

    As a context manager it owns the lower part of the terminal; all words stay on the screen when it ends.
    """

    LINES = 8  # of words

    def __init__(self, status: Callable[[], Status], console: Console | None = None) -> None:
        from rich.console import Console
        from rich.live import Live

        self._status = status
        self._console = console or Console(stderr=True)
        self._lock = threading.Lock()
        self._text = ""
        self._live = Live(get_renderable=self.render, console=self._console, refresh_per_second=10, transient=True)

    def write(self, reply: Reply) -> None:
        """Add the words of one reply."""
        if reply.text:
            with self._lock:
                self._text += reply.text

    def say(self, line: str) -> None:
        """Print a line above the display, to stay."""
        self._console.print(line, markup=False, highlight=False)

    def new_conversation(self) -> None:
        """What was said so far moves up and stays; new words begin on a new line."""
        with self._lock:
            text, self._text = self._text.strip(), ""
        if text:
            self.say(text)

    def __enter__(self) -> Dashboard:
        self._live.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._live.stop()
        self.new_conversation()

    def render(self) -> RenderableType:
        """The display as it is now."""
        from rich.console import Group
        from rich.text import Text

        width = max(20, self._console.width)
        with self._lock:
            words = self._text.strip()
        shown = Text(words, overflow="fold").wrap(self._console, width)[-self.LINES :]
        status = self._status()
        return Group(*shown, Text(""), Text(figures(status), style="dim"), Text(status.note or KEYS, style="dim"))


def figures(status: Status) -> str:
    """One line with everything in it."""
    parts = [
        "mic muted" if status.muted else f"mic {meter(status.input_db)}",
        f"moshi {meter(status.output_db)}",
        f"frame {time_bar(status.frame_ms)} {status.frame_ms:.0f}/{FRAME_MS:.0f} ms",
        f"lag {status.lag_ms:.0f} ms",
    ]
    if status.drops or status.underruns:
        parts.append(f"dropped {status.drops}, underruns {status.underruns}")
    if status.echo:
        parts.append(f"echo {status.echo}")
    return "   ".join(parts)


def meter(db: float, width: int = 8) -> str:
    """A level as a bar. db: RMS in dBFS, −60 and below is empty, 0 is full."""
    share = 0.0 if math.isnan(db) else (db - _QUIET_DB) / (_LOUD_DB - _QUIET_DB)
    return _bar(share, width)


def time_bar(ms: float, width: int = 8) -> str:
    """A frame's time as a bar; a full bar is all the time there is."""
    return _bar(ms / FRAME_MS, width)


def _bar(share: float, width: int) -> str:
    eighths = round(min(1.0, max(0.0, share)) * width * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_BAR[rest] if rest else "")).ljust(width, "·")
