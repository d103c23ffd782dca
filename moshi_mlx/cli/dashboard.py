"""The live terminal of a conversation: its turns, who speaks, levels, time per frame, and what was lost."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.control import Control
from rich.live import Live
from rich.segment import ControlType
from rich.table import Table
from rich.text import Text

from moshi_mlx.conversation.history import NAMES, turn_said
from moshi_mlx.tasks.subtitles import clock

if TYPE_CHECKING:
    from rich.console import RenderableType
    from typing_extensions import Self

    from moshi_mlx.audio.duplex import Duplex, DuplexStatus
    from moshi_mlx.audio.echo.control import EchoControl
    from moshi_mlx.conversation.conversation import Conversation
    from moshi_mlx.conversation.turns import Speaker, Turn

KEYS = "m mute   space push-to-talk   ? all keys   q quit"
ALL_KEYS = (
    "m mute the microphone     space push-to-talk: push, speak, push again",
    "r new conversation        f let Moshi forget all but the last seconds",
    "+ louder   - quieter      i next microphone   o next speaker",
    "s keep this conversation  q quit              ? hide this",
)
WARNING_SECONDS = 10.0  # for which a warning stays
FRAME_MS = 80.0
_BAR = " ▁▂▃▄▅▆▇█"
_QUIET_DB, _LOUD_DB = -60.0, 0.0


@dataclass(frozen=True)
class Figures:
    """What is shown of a conversation besides its turns."""

    audio: DuplexStatus
    frame_ms: float  # what a frame takes lately, of the 80 there are
    echo: str  # its state, with its attenuation; "" where nothing is done about it
    advice: str = ""
    speaking: tuple[Speaker, ...] = ()
    words: str = ""  # of Moshi in the turn at hand
    seconds: float = 0.0  # since the conversation began
    push_to_talk: bool = False


def figures(conversation: Conversation, duplex: Duplex, echo: EchoControl) -> Figures:
    """Gather the figures of this moment."""
    attenuation = f" {echo.erle:.0f} dB" if echo.state == "cancelling" else ""
    return Figures(
        audio=duplex.status(),
        frame_ms=1000 * conversation.stats.frame_seconds(conversation.threaded),
        echo="" if echo.state == "off" else echo.state + attenuation,
        advice=echo.advice or "",
        speaking=conversation.turns.speaking,
        words=conversation.turns.words,
        seconds=conversation.turns.seconds,
        push_to_talk=conversation.uses_push_to_talk,
    )


class Dashboard:
    """The lower part of a terminal while a person talks, redrawn ten times a second; turns stay above it.

    now: gives the figures of the moment. All methods may be called from any thread.
    """

    WORDS = 6  # lines of the turn at hand

    def __init__(self, now: Callable[[], Figures], console: Console) -> None:
        self._now, self._console = now, console
        self._lock = threading.Lock()
        self._warning, self._until = "", 0.0
        self._help = False
        self._drawn: list[int] = []  # columns of each line of the display on the screen
        self._live = Live(get_renderable=self.render, console=console, refresh_per_second=10, transient=True)

    def turn(self, turn: Turn) -> None:
        """Let a turn that is over stay on the screen."""
        self._console.print(_row(clock(turn.begin), NAMES[turn.speaker], Text(turn_said(turn))))

    def warn(self, text: str) -> None:
        """Show a warning for some seconds, or until `calm`."""
        with self._lock:
            self._warning, self._until = text, time.monotonic() + WARNING_SECONDS

    def calm(self) -> None:
        """Take the warning away: what it was about is over."""
        with self._lock:
            self._warning = ""

    def toggle_help(self) -> None:
        """Show all keys, or hide them again."""
        self._help = not self._help

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._live.stop()

    def render(self) -> RenderableType:
        """The display as it is now."""
        now = self._now()
        with self._lock:
            warning = self._warning if time.monotonic() < self._until else ""
        lost = " and ".join(now.audio.lost)
        note = f"{lost} lost, waiting for it" if lost else warning or now.advice
        notes = [note] if note else []
        rows = [*notes, *(ALL_KEYS if self._help else [KEYS])]
        figures = [Text(line, style="dim", no_wrap=True, overflow="ellipsis") for line in (*lines(now), *rows)]
        whole = Group(*self._turn_at_hand(now), Text(""), *figures)
        return Group(self._over_what_was_wrapped(whole), whole)

    def _over_what_was_wrapped(self, whole: Group) -> Control:
        """Return the way to where the last display begins, in a terminal that was made narrower since.

        It has wrapped the lines, so there are more of them than were drawn.
        """
        width = self._console.width
        more = sum((max(1, length) - 1) // width for length in self._drawn)
        drawn = self._console.render_lines(whole, pad=False)
        self._drawn = [sum(segment.cell_length for segment in line) for line in drawn]
        return Control(*[(ControlType.CURSOR_UP, 1), (ControlType.ERASE_IN_LINE, 2)] * more)

    def _turn_at_hand(self, now: Figures) -> list[RenderableType]:
        if not now.words:
            return []
        width = max(20, self._console.width - 18)
        shown = Text(now.words[-self.WORDS * width :], overflow="fold").wrap(self._console, width)
        return [_row("", NAMES["moshi"], Text("\n").join(shown[-self.WORDS :]))]


def _row(when: str, who: str, said: Text) -> Table:
    """A turn: its time, who speaks, and what, which may be several lines beside them."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(width=7, justify="right", style="dim")
    table.add_column(width=6, style="bold")
    table.add_column(overflow="fold")
    table.add_row(when, who, said)
    return table


def status(now: Figures) -> str:
    """Who speaks, and whether the microphone is open."""
    user, moshi = "user" in now.speaking, "moshi" in now.speaking
    if user:
        return "hears you, and speaks" if moshi else "hears you"
    if moshi:
        return "Moshi speaks"
    if now.audio.muted:
        return "push space and speak" if now.push_to_talk else "muted"
    return "speak, then push space" if now.push_to_talk else "listening"


def lines(now: Figures) -> list[str]:
    """The figures as lines of at most 80 columns."""
    audio = now.audio
    levels = (
        "mic muted   " if audio.muted else f"mic {meter(audio.input_level)}",
        f"moshi {meter(audio.output_level)}",
        f"frame {time_bar(now.frame_ms)} {now.frame_ms:2.0f}/{FRAME_MS:.0f} ms",
        f"lag {1000 * audio.lag:3.0f} ms",
    )
    trouble = []
    if audio.dropped or audio.underruns:
        trouble.append(f"dropped {audio.dropped}, underruns {audio.underruns}")
    if now.echo:
        trouble.append(f"echo {now.echo}")
    if audio.volume != 1.0:
        trouble.append(f"volume {audio.volume:.0%}")
    first = [f"{clock(now.seconds)}   {status(now)}", *trouble]
    return ["   ".join(first), "   ".join(levels)]


def meter(db: float, width: int = 8) -> str:
    """A level as a bar. db: RMS in dBFS, −60 and below is empty, 0 is full."""
    share = 0.0 if math.isnan(db) else (db - _QUIET_DB) / (_LOUD_DB - _QUIET_DB)
    return _bar(share, width)


def time_bar(ms: float, width: int = 8) -> str:
    """A frame's time as a bar, which is full at 80 ms."""
    return _bar(ms / FRAME_MS, width)


def _bar(share: float, width: int) -> str:
    eighths = round(min(1.0, max(0.0, share)) * width * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_BAR[rest] if rest else "")).ljust(width, "·")
