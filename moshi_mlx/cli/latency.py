"""`moshi-mlx chat --latency`: where the milliseconds between mouth and ear go."""

from __future__ import annotations

import sys
from contextlib import ExitStack

import typer

from moshi_mlx.audio.portaudio import unsuppressed_stderr
from moshi_mlx.cli.interruption import INTERRUPTED, interruptible
from moshi_mlx.cli.options import DeviceOptions, ModelOptions, SamplingOptions
from moshi_mlx.cli.screen import Screen
from moshi_mlx.cli.tables import table
from moshi_mlx.cli.talk import loaded, opened
from moshi_mlx.cli.words import JsonLines
from moshi_mlx.conversation.latency import CLICKS, EchoBypass, LatencyBreakdown, LatencyProbe
from moshi_mlx.runtime.engine import converse
from moshi_mlx.runtime.stats import Stats


def measure_latency(
    model: ModelOptions,
    devices: DeviceOptions,
    sampling: SamplingOptions,
    *,
    as_json: bool = False,
    quiet: bool = False,
) -> None:
    """Run a conversation in which clicks take the place of Moshi's voice, and print what became of them."""
    with ExitStack() as stack:
        screen = Screen(False, quiet, stack.enter_context(unsuppressed_stderr()))
        control, _, moshi, _ = loaded(model, devices, sampling, screen)
        session = stack.enter_context(moshi.session(sampling.seed))
        echo = EchoBypass(control, control.holds_back)
        duplex = stack.enter_context(opened(devices, echo, screen))
        screen.say(f"listen to {CLICKS} clicks, and keep quiet")
        probe, stats = LatencyProbe(duplex), Stats()
        with interruptible(probe.close) as interruption:
            converse(session, probe, probe, stats)
        if interruption.came:
            raise typer.Exit(INTERRUPTED)
        breakdown = probe.breakdown(stats, echo, max(moshi.lm.config.delays))
    if as_json:
        JsonLines(sys.stdout).emit("latency", **breakdown.as_dict())
    else:
        print(breakdown_text(breakdown), flush=True)


def breakdown_text(breakdown: LatencyBreakdown) -> str:
    """The breakdown for people, its sum last."""
    rows = [
        (stage.name, f"{stage.ms:.1f}", "" if stage.p95_ms is None else f"{stage.p95_ms:.1f}", stage.source)
        for stage in breakdown.stages
    ]
    rows.append(("mouth to ear", f"{breakdown.mouth_to_ear_ms:.1f}", "", ""))
    heard = f"{breakdown.heard} of {breakdown.played} clicks were heard"
    if not breakdown.heard:
        heard += ": what the devices take is only what the system says; turn the speaker up, take off headphones"
    return table(rows, ("", "ms", "p95", "")) + f"\n{heard}"
