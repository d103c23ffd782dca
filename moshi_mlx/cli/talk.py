"""A live conversation with its devices and display: `moshi-mlx chat` and `python -m moshi_mlx.local`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import typer

from moshi_mlx.audio.devices import choose
from moshi_mlx.audio.duplex import Duplex
from moshi_mlx.audio.echo.control import EchoCanceller, EchoControl, TracedEcho
from moshi_mlx.audio.portaudio import unsuppressed_stderr
from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.cli.dashboard import figures
from moshi_mlx.cli.interruption import INTERRUPTED, interruptible
from moshi_mlx.cli.options import DeviceOptions, ModelOptions, SamplingOptions
from moshi_mlx.cli.screen import Screen
from moshi_mlx.conversation.conversation import Conversation
from moshi_mlx.conversation.observer import AudioMonitor
from moshi_mlx.conversation.recorder import Recorder, check_folder, made_with
from moshi_mlx.conversation.trimming import KEPT_SECONDS, ContextTrimmer
from moshi_mlx.errors import DownloadError
from moshi_mlx.runtime.moshi import Moshi
from moshi_mlx.runtime.trace import Trace


def talk(
    model: ModelOptions,
    devices: DeviceOptions,
    sampling: SamplingOptions,
    *,
    save: Path | None = None,
    trace: Path | None = None,
    trim: float | None = None,
    frames: int | None = None,
    as_json: bool = False,
    quiet: bool = False,
) -> None:
    """Talk until the person quits, and report on it. The microphone opens when all is warm.

    save: a folder that keeps the conversation. trace: a file for the times of every stage. trim: seconds that stay
    when a full window is trimmed; None trims it only when the person asks. frames: how many there may be.
    """
    with ExitStack() as stack:
        screen = Screen(as_json, quiet, stack.enter_context(unsuppressed_stderr()))
        if save:
            check_folder(save)
        tracing = stack.enter_context(closing(Trace(trace))) if trace else None
        echo, found, moshi = loaded(model, devices, sampling, screen)
        about = made_with(found, moshi, devices.echo) if save else {}  # takes seconds: before the devices open
        if trim:
            with moshi.session(0) as session:
                ContextTrimmer(session, trim).warm_up(session)
        session = stack.enter_context(moshi.session(sampling.seed))
        trimmer = ContextTrimmer(session, trim or KEPT_SECONDS, automatic=trim is not None)
        duplex = stack.enter_context(opened(devices, TracedEcho(echo, tracing) if tracing else echo, screen))
        monitor = AudioMonitor(duplex, echo, screen, tracing)
        recorder = None
        if save:
            about |= {"seed": session.seed, "devices": duplex.describe()}
            recorder = stack.enter_context(closing(Recorder(save, about, monitor.losses)))
        sinks = [*screen.sinks, monitor]
        conversation = Conversation(session, duplex, sinks, screen, recorder, trimmer, tracing, frames)
        with screen.shown(lambda: figures(conversation, duplex, echo), conversation):
            screen.state("ready")
            with interruptible(conversation.close) as interruption:
                conversation.run()
        screen.end(conversation.stats, monitor.losses(), session.seed, interruption.came, save)
    if interruption.came:
        raise typer.Exit(INTERRUPTED)


def loaded(
    model: ModelOptions, devices: DeviceOptions, sampling: SamplingOptions, screen: Screen
) -> tuple[EchoControl, Checkpoint, Moshi]:
    """Choose the devices' echo treatment, find the checkpoint, load the model and warm it up.

    What can go wrong cheaply goes wrong first.
    """
    choose("input", devices.microphone)
    choose("output", devices.speaker)
    echo = EchoControl(devices.echo)
    try:
        found = model.resolve(sampling, screen.note)
    except DownloadError as error:
        raise DownloadError(
            f"{error}; `moshi-mlx chat --model nano` needs no download and can be tried meanwhile"
        ) from error
    screen.say(f"loading {found.name}")
    moshi = model.load(found)
    screen.say("warming up")
    moshi.warm_up()
    return echo, found, moshi


@contextmanager
def opened(devices: DeviceOptions, echo: EchoCanceller, screen: Screen) -> Iterator[Duplex]:
    """Open microphone and speaker for as long as the block lasts, and say which they are."""
    with closing(Duplex(devices.microphone, devices.speaker, echo, screen.device_event)) as duplex:
        for line in duplex.describe():
            screen.say(line)
        yield duplex
