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

    from moshi_mlx.audio.duplex import Duplex
    from moshi_mlx.audio.echo.control import EchoControl
    from moshi_mlx.conversation.conversation import Conversation

KEYS = "m mute   space push-to-talk   f forget   r reset   q quit"
FRAME_MS = 80.0
_BAR = " ▁▂▃▄▅▆▇█"
_QUIET_DB, _LOUD_DB = -60.0, 0.0


@dataclass(frozen=True)
class Figures:
    """What is shown of a conversation besides its words."""

    input_db: float  # level of the microphone, dBFS RMS
    output_db: float
    frame_ms: float  # what a frame takes lately, of the 80 there are
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


class Dashboard(LiveWords):
    """The latest words above a line of figures. now: gives the figures of the moment."""

    def __init__(self, now: Callable[[], Figures], console: Console) -> None:
        super().__init__(console, lambda: _below(now()))


def _below(now: Figures) -> list[RenderableType]:
    figures = [Text(line, style="dim", no_wrap=True, overflow="ellipsis") for line in lines(now)]
    return [Text(""), *figures, Text(now.note or KEYS, style="dim")]


def lines(figures: Figures) -> list[str]:
    """The figures as lines of at most 80 columns."""
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
    """A frame's time as a bar, which is full at 80 ms."""
    return _bar(ms / FRAME_MS, width)


def _bar(share: float, width: int) -> str:
    eighths = round(min(1.0, max(0.0, share)) * width * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_BAR[rest] if rest else "")).ljust(width, "·")


def _echo_text(control: EchoControl) -> str:
    """The state of the echo, with its attenuation; "" where nothing is done about it."""
    if control.state == "off":
        return ""
    return f"{control.state} {control.erle:.0f} dB" if control.state == "cancelling" else control.state
