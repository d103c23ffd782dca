"""A live conversation with its devices and display: `moshi-mlx chat` and `python -m moshi_mlx.local`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path

import typer

from moshi_mlx.audio.devices import Kind, choose
from moshi_mlx.audio.duplex import Duplex
from moshi_mlx.audio.echo.control import EchoCanceller, EchoControl, TracedEcho
from moshi_mlx.audio.portaudio import unsuppressed_stderr
from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.cli.dashboard import figures
from moshi_mlx.cli.interruption import INTERRUPTED, interruptible, undone
from moshi_mlx.cli.live_model import LiveModel
from moshi_mlx.cli.mlx_check import warn_once
from moshi_mlx.cli.options import DeviceOptions, ModelOptions, SamplingOptions
from moshi_mlx.cli.persona import NOBODY, PersonaOptions
from moshi_mlx.cli.screen import Screen
from moshi_mlx.conversation.conversation import Conversation
from moshi_mlx.conversation.draft import Draft
from moshi_mlx.conversation.history import new_folder
from moshi_mlx.conversation.observer import AudioMonitor
from moshi_mlx.conversation.recorder import Recorder, check_folder, made_with
from moshi_mlx.conversation.rest import Idleness
from moshi_mlx.conversation.trimming import KEPT_SECONDS, ContextTrimmer
from moshi_mlx.errors import AudioFileError
from moshi_mlx.runtime.moshi import Moshi
from moshi_mlx.runtime.trace import Trace
from moshi_mlx.tasks.persona import Role


def talk(
    model: ModelOptions,
    devices: DeviceOptions,
    sampling: SamplingOptions,
    *,
    persona: PersonaOptions = NOBODY,
    save: Path | None = None,
    keep: bool = False,
    trace: Path | None = None,
    trim: float | None = None,
    frames: int | None = None,
    captions: str | None = None,
    unload_after: float | None = None,
    as_json: bool = False,
    quiet: bool = False,
) -> None:
    """Talk until the person quits, and report on it. The microphone opens when all is warm.

    persona: who the model is to be. save: a folder that keeps the conversation. keep: let the history keep it.
    trace: a file for the times of every stage. trim: seconds that stay when a full window is trimmed; None trims
    it only when the person asks. frames: how many there may be. captions: a speech-to-text model that writes down
    what the person says. unload_after: minutes of silence, after which the models leave the memory; None: never.
    """
    with ExitStack() as stack:
        screen = Screen(as_json, quiet, stack.enter_context(unsuppressed_stderr()))
        if save:
            check_folder(save)
        tracing = stack.enter_context(closing(Trace(trace))) if trace else None
        echo, found, moshi, role = loaded(model, devices, sampling, screen, persona)
        prompt = role.prompt(moshi)
        if keep and not save:
            save = new_folder(found.name)
        about = made_with(found, moshi, devices.echo, hashed=bool(save))  # may take seconds: before devices open
        if trim:
            with moshi.session(0, prompt=prompt) as session:
                ContextTrimmer(session, trim).warm_up(session)
        live = stack.enter_context(
            closing(LiveModel(moshi, found, model, screen, sampling.seed, prompt, captions))
        )
        session = live.session
        assert session
        trimmer = ContextTrimmer(session, trim or KEPT_SECONDS, automatic=trim is not None)
        duplex = stack.enter_context(opened(devices, TracedEcho(echo, tracing) if tracing else echo, screen))
        monitor = AudioMonitor(duplex, echo, screen, tracing)
        about |= {"seed": live.seed, "devices": duplex.describe()}
        recorder = draft = None
        if save:
            recorder = stack.enter_context(closing(Recorder(save, about, monitor.losses)))
        elif screen.has_keys:
            recorder = draft = stack.enter_context(closing(Draft(found.name, about, monitor.losses)))
        sinks = [*screen.sinks, monitor]
        idleness = Idleness(60 * unload_after) if unload_after else None
        conversation = Conversation(
            session, duplex, sinks, screen, recorder, trimmer, tracing, frames, live.captioner, live, idleness
        )
        del moshi, session  # `live` alone keeps them
        keys = more_keys(duplex, draft, save)
        with screen.shown(lambda: figures(conversation, duplex, echo), conversation, keys):
            screen.state("ready")
            with interruptible(conversation.close) as interruption:
                conversation.run()
        kept = draft.kept if draft else save
        losses = monitor.losses() | live.losses
        screen.end(conversation.stats, losses, live.seed, interruption.came, kept)
    if interruption.came:
        raise typer.Exit(INTERRUPTED)


def more_keys(duplex: Duplex, draft: Draft | None, save: Path | None) -> dict[str, Callable[[], str]]:
    """Return what the keys of the devices and of keeping do; each gives a line for the person, or ""."""

    def keep() -> str:
        if draft is None:
            return f"this conversation is kept in {save}" if save else ""
        try:
            return f"this conversation is kept in {draft.keep()}"
        except AudioFileError as error:
            return str(error)

    def louder(steps: int) -> str:
        duplex.change_volume(steps)
        return ""

    def other(kind: Kind) -> str:
        duplex.next_device(kind)  # whose event says which it is
        return ""

    return {
        "s": keep,
        "+": partial(louder, 1),
        "=": partial(louder, 1),  # where + needs a shift
        "-": partial(louder, -1),
        "i": partial(other, "input"),
        "o": partial(other, "output"),
    }


@undone("the conversation had not begun")
def loaded(
    model: ModelOptions,
    devices: DeviceOptions,
    sampling: SamplingOptions,
    screen: Screen,
    persona: PersonaOptions = NOBODY,
) -> tuple[EchoControl, Checkpoint, Moshi, Role]:
    """Choose the devices' echo treatment, find the checkpoint and who it is to be, load the model and warm it up.

    What can go wrong cheaply goes wrong first.
    """
    choose("input", devices.microphone)
    choose("output", devices.speaker)
    echo = EchoControl(devices.echo)
    found = model.resolve(sampling, screen.note)
    role = persona.read(found, model.offline, screen.note)
    warn_once(screen.note)
    screen.say(f"loading {found.name}")
    moshi = model.load(found, screen.note)
    screen.say("warming up")
    moshi.warm_up()
    return echo, found, moshi, role


@contextmanager
def opened(devices: DeviceOptions, echo: EchoCanceller, screen: Screen) -> Iterator[Duplex]:
    """Open microphone and speaker for as long as the block lasts, and say which they are."""
    with closing(Duplex(devices.microphone, devices.speaker, echo, screen.device_event)) as duplex:
        for line in duplex.describe():
            screen.say(line)
        yield duplex
