"""The live terminal of a conversation: words, levels, time per frame, and what was lost."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from moshi_mlx.audio.duplex import Duplex
    from moshi_mlx.audio.echo.control import EchoControl
    from moshi_mlx.conversation.conversation import Conversation
    from moshi_mlx.runtime.session import Reply

KEYS = "m mute   space push-to-talk   f forget   r reset   q quit"
FRAME_MS = 80.0
_BAR = " ▁▂▃▄▅▆▇█"
_QUIET_DB, _LOUD_DB = -60.0, 0.0


@dataclass(frozen=True)
class Figures:
    """What is shown below the words."""

    input_db: float  # level of the microphone, dBFS RMS
    output_db: float
    frame_ms: float  # what a frame costs lately, of the 80 there are
    lag_ms: float  # from mouth to ear, without the model's own delay
    drops: int  # frames of the microphone that were thrown away to catch up
    underruns: int  # times the speaker had nothing to play
    echo: str  # "" where there is no canceller
    muted: bool
    note: str = ""  # the latest thing that happened


def figures(conversation: Conversation, duplex: Duplex, echo: EchoControl) -> Figures:
    """Gather the figures of this moment."""
    audio = duplex.status()
    return Figures(
        input_db=audio.input_level,
        output_db=audio.output_level,
        frame_ms=1000 * conversation.stats.frame_seconds(conversation.threaded),
        lag_ms=1000 * audio.lag,
        drops=audio.dropped,
        underruns=audio.underruns,
        echo=_echo_text(echo),
        muted=audio.muted,
        note=f"{' and '.join(audio.lost)} lost, waiting for it" if audio.lost else echo.advice or "",
    )


class Dashboard:
    """A sink that shows the latest words above a line of figures, redrawn ten times a second.

    As a context manager it owns the lower part of the terminal; all words stay on the screen when it ends.
    """

    LINES = 8  # of words

    def __init__(self, now: Callable[[], Figures], console: Console | None = None) -> None:
        from rich.console import Console
        from rich.live import Live

        self._now = now
        self._console = console or Console(stderr=True)
        self._lock = threading.Lock()
        self._words: list[str] = []  # all of the conversation
        self._latest = ""  # those that may still be shown; begins where a line begins
        self._live = Live(get_renderable=self.render, console=self._console, refresh_per_second=10, transient=True)

    def write(self, reply: Reply) -> None:
        """Add the words of one reply."""
        if reply.text:
            with self._lock:
                self._words.append(reply.text)
                self._latest = (self._latest + reply.text).lstrip()

    def say(self, line: str) -> None:
        """Print a line above the display, to stay."""
        self._console.print(line, markup=False, highlight=False)

    def new_conversation(self) -> None:
        """What was said so far moves up and stays; new words begin on a new line."""
        with self._lock:
            text = "".join(self._words).strip()
            self._words, self._latest = [], ""
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
            shown = Text(self._latest, overflow="fold").wrap(self._console, width)
            if len(shown) > 2 * self.LINES:  # wrapping an hour of words ten times a second would take a core
                for line in shown[: -self.LINES]:
                    self._latest = self._latest[len(line.plain.rstrip()) :].lstrip()
        now = self._now()
        below = [Text(line, style="dim", no_wrap=True, overflow="ellipsis") for line in lines(now)]
        note = Text(now.note or KEYS, style="dim")
        return Group(*shown[-self.LINES :], Text(""), *below, note)


def lines(figures: Figures) -> list[str]:
    """The figures as they are shown below the words; 80 columns hold them."""
    levels = (
        "mic muted   " if figures.muted else f"mic {meter(figures.input_db)}",
        f"moshi {meter(figures.output_db)}",
        f"frame {time_bar(figures.frame_ms)} {figures.frame_ms:2.0f}/{FRAME_MS:.0f} ms",
        f"lag {figures.lag_ms:3.0f} ms",
    )
    trouble = []
    if figures.drops or figures.underruns:
        trouble.append(f"dropped {figures.drops}, underruns {figures.underruns}")
    if figures.echo:
        trouble.append(f"echo {figures.echo}")
    return ["   ".join(levels), *(["   ".join(trouble)] if trouble else [])]


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


def _echo_text(control: EchoControl) -> str:
    """The state of the echo, and how much of it is taken away; "" where nothing is done about it."""
    if control.state == "off":
        return ""
    return f"{control.state} {control.erle:.0f} dB" if control.state == "cancelling" else control.state
