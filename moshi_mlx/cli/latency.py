"""`moshi-mlx chat --latency`: where the milliseconds between mouth and ear go."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

import typer

from moshi_mlx.cli.answer import INTERRUPTED
from moshi_mlx.cli.interruption import interruptible
from moshi_mlx.cli.screen import Screen
from moshi_mlx.cli.talk import Setup, loaded

if TYPE_CHECKING:
    from moshi_mlx.conversation.latency import Ladder


def measure_latency(setup: Setup, *, as_json: bool = False, quiet: bool = False) -> None:
    """Run a conversation in which clicks take the place of Moshi's voice, and print what became of them."""
    from moshi_mlx.audio.devices import own_stderr
    from moshi_mlx.audio.duplex import Duplex
    from moshi_mlx.cli.transcript import JsonLines
    from moshi_mlx.conversation.latency import CLICKS, LatencyProbe, Unheard
    from moshi_mlx.runtime.engine import converse
    from moshi_mlx.runtime.stats import Stats

    with ExitStack() as stack:
        screen = Screen(False, quiet, stack.enter_context(own_stderr()))
        control, _, moshi, chosen = loaded(setup, screen)
        screen.say("warming up")
        moshi.warm_up(sampling=chosen)
        session = stack.enter_context(moshi.session(setup.seed, chosen))
        echo = Unheard(control, control.holds_back)
        duplex = Duplex(**setup.devices, echo=echo, on_event=screen.device_event)
        stack.callback(duplex.close)
        for line in duplex.describe():
            screen.say(line)
        screen.say(f"listen to {CLICKS} clicks, and keep quiet")
        probe, stats = LatencyProbe(duplex), Stats()
        with interruptible(probe.close) as interruption:
            converse(session, probe, probe, stats)
        if interruption.came:
            raise typer.Exit(INTERRUPTED)
        ladder = probe.ladder(stats, echo, moshi.lm.config.max_delay)
    if as_json:
        JsonLines(sys.stdout).emit("latency", **ladder.as_dict())
    else:
        print(ladder_text(ladder), flush=True)


def ladder_text(ladder: Ladder) -> str:
    """The ladder for people, its sum last."""
    from moshi_mlx.cli.tables import table

    rows = [
        (rung.name, f"{rung.ms:.1f}", "" if rung.p95_ms is None else f"{rung.p95_ms:.1f}", rung.source)
        for rung in ladder.rungs
    ]
    rows.append(("mouth to ear", f"{ladder.mouth_to_ear_ms:.1f}", "", ""))
    heard = f"{ladder.heard} of {ladder.played} clicks were heard"
    if not ladder.heard:
        heard += ": what the devices take is only what the system says; turn the speaker up, take off headphones"
    return table(rows, ("", "ms", "p95", "")) + f"\n{heard}"
