"""The live terminal of a conversation: words, levels, time per frame, and what was lost."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.text import Text

from moshi_mlx.cli.words import LiveWords

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from moshi_mlx.audio.duplex import Duplex, DuplexStatus
    from moshi_mlx.audio.echo.control import EchoControl
    from moshi_mlx.conversation.conversation import Conversation

KEYS = "m mute   space push-to-talk   f forget   r reset   q quit"
FRAME_MS = 80.0
_BAR = " ▁▂▃▄▅▆▇█"
_QUIET_DB, _LOUD_DB = -60.0, 0.0


@dataclass(frozen=True)
class Figures:
    """What is shown of a conversation besides its words."""

    audio: DuplexStatus
    frame_ms: float  # what a frame takes lately, of the 80 there are
    echo: str  # its state, with its attenuation; "" where nothing is done about it
    advice: str = ""


def figures(conversation: Conversation, duplex: Duplex, echo: EchoControl) -> Figures:
    """Gather the figures of this moment."""
    attenuation = f" {echo.erle:.0f} dB" if echo.state == "cancelling" else ""
    return Figures(
        audio=duplex.status(),
        frame_ms=1000 * conversation.stats.frame_seconds(conversation.threaded),
        echo="" if echo.state == "off" else echo.state + attenuation,
        advice=echo.advice or "",
    )


class Dashboard(LiveWords):
    """The latest words above a line of figures. now: gives the figures of the moment."""

    def __init__(self, now: Callable[[], Figures], console: Console) -> None:
        super().__init__(console, lambda: _below(now()))


def _below(now: Figures) -> list[RenderableType]:
    figures = [Text(line, style="dim", no_wrap=True, overflow="ellipsis") for line in lines(now)]
    lost = " and ".join(now.audio.lost)
    note = f"{lost} lost, waiting for it" if lost else now.advice or KEYS
    return [Text(""), *figures, Text(note, style="dim")]


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
    return ["   ".join(levels), *(["   ".join(trouble)] if trouble else [])]


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
