"""What `moshi-mlx chat` and `python -m moshi_mlx.local` have in common: a live talk and what a person sees."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from moshi_mlx.cli.answer import INTERRUPTED
from moshi_mlx.cli.interruption import interruptible
from moshi_mlx.cli.screen import Screen, echo_text
from moshi_mlx.errors import DownloadError

if TYPE_CHECKING:
    from moshi_mlx.audio.duplex import Duplex
    from moshi_mlx.audio.echo.control import EchoControl
    from moshi_mlx.checkpoint.checkpoint import Checkpoint
    from moshi_mlx.cli.dashboard import Figures
    from moshi_mlx.conversation.conversation import Conversation
    from moshi_mlx.runtime.moshi import Moshi
    from moshi_mlx.sampling_config import SamplingConfig


@dataclass(frozen=True)
class Setup:
    """Model and devices of a live conversation.

    checkpoint, devices, sampling: what was given of the arguments of `Checkpoint.resolve`, `Duplex` and
    `SamplingConfig`.
    """

    checkpoint: Mapping[str, Any]
    codec: str = "auto"
    kv_bits: int | None = None
    devices: Mapping[str, str] = field(default_factory=dict)
    echo: str = "auto"
    seed: int | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)


def talk(
    setup: Setup,
    *,
    save: Path | None = None,
    trace: Path | None = None,
    refresh: float | None = None,
    frames: int | None = None,
    as_json: bool = False,
    quiet: bool = False,
) -> None:
    """Talk until the person quits, and report on it. The microphone opens when all is warm."""
    from moshi_mlx.audio.devices import own_stderr
    from moshi_mlx.audio.duplex import Duplex
    from moshi_mlx.audio.echo.control import TracedEcho
    from moshi_mlx.cli.changes import Changes
    from moshi_mlx.conversation.conversation import Conversation
    from moshi_mlx.conversation.recorder import Recorder, check_folder
    from moshi_mlx.conversation.trimming import KEPT_SECONDS, ContextTrimmer
    from moshi_mlx.runtime.trace import Trace

    with ExitStack() as stack:
        screen = Screen(as_json, quiet, stack.enter_context(own_stderr()))
        if save:
            check_folder(save)
        tracing = Trace(trace) if trace else None
        if tracing:
            stack.callback(tracing.close)
        control, found, moshi, chosen = loaded(setup, screen)
        about = _about(found, setup, moshi, chosen) if save else {}  # takes seconds: before the devices open
        screen.say("warming up")
        moshi.warm_up(sampling=chosen)
        if refresh:
            with moshi.session(0, chosen) as session:
                ContextTrimmer(session, refresh).warm_up(session)
        session = stack.enter_context(moshi.session(setup.seed, chosen))
        trimmer = ContextTrimmer(session, refresh or KEPT_SECONDS, automatic=refresh is not None)
        echo = TracedEcho(control, tracing) if tracing else control
        duplex = Duplex(**setup.devices, echo=echo, on_event=screen.device_event)
        stack.callback(duplex.close)
        for line in duplex.describe():
            screen.say(line)
        recorder = None
        if save:
            about |= {"seed": session.seed, "devices": duplex.describe()}
            recorder = Recorder(save, about, lambda: _losses(duplex))
            stack.callback(recorder.close)
        conversation = Conversation(
            session,
            duplex,
            [*screen.sinks, Changes(duplex, control, screen, tracing)],
            screen,
            recorder,
            trimmer,
            tracing,
            frames,
        )
        interrupted = _converse(conversation, screen, duplex, control)
        screen.end(conversation.stats, _losses(duplex), session.seed, interrupted, save)
    if interrupted:
        raise typer.Exit(INTERRUPTED)


def loaded(setup: Setup, screen: Screen) -> tuple[EchoControl, Checkpoint, Moshi, SamplingConfig]:
    """Echo treatment, checkpoint, model, and how to sample. What can go wrong cheaply goes wrong first."""
    from dataclasses import replace

    from moshi_mlx.audio.devices import choose
    from moshi_mlx.audio.echo.control import EchoControl
    from moshi_mlx.runtime.moshi import assemble

    choose("input", setup.devices.get("input"))
    choose("output", setup.devices.get("output"))
    control = EchoControl(setup.echo)
    found = _resolve(setup.checkpoint)
    if found.note:
        screen.say(f"note: {found.note}")
    screen.say(f"loading {found.name}")
    chosen = replace(found.sampling, **setup.sampling)
    return control, found, assemble(found, setup.codec, setup.kv_bits), chosen


def _converse(conversation: Conversation, screen: Screen, duplex: Duplex, control: EchoControl) -> bool:
    """Run the conversation with its keys and its display; whether Ctrl-C ended it."""
    with screen.shown(lambda: figures(conversation, duplex, control), conversation):
        screen.state("ready")
        try:
            with interruptible(conversation.close) as interruption:
                conversation.run()
        except KeyboardInterrupt:  # the second one
            conversation.close()
            return True
    return interruption.came


def _resolve(checkpoint: Mapping[str, Any]) -> Checkpoint:
    from moshi_mlx.checkpoint.checkpoint import Checkpoint

    try:
        return Checkpoint.resolve(**checkpoint)
    except DownloadError as error:
        raise DownloadError(
            f"{error}; `moshi-mlx chat --model nano` needs no download and can be tried meanwhile"
        ) from error


def _about(found: Checkpoint, setup: Setup, moshi: Moshi, sampling: SamplingConfig) -> dict[str, Any]:
    """What session.json says of how a conversation was made."""
    from dataclasses import asdict

    from moshi_mlx.checkpoint.hub import sha256
    from moshi_mlx.version import __version__

    return {
        "version": __version__,
        "model": found.name,
        "weights": {"file": found.lm_weights.name, "sha256": sha256(found.lm_weights)},
        "codec": moshi.codec.name,
        "sampling": asdict(sampling),
        "echo": setup.echo,
    }


def _losses(duplex: Duplex) -> dict[str, int]:
    audio = duplex.status()
    return {"dropped": audio.dropped, "underruns": audio.underruns, "stumbles": audio.stumbles}


def figures(conversation: Conversation, duplex: Duplex, control: EchoControl) -> Figures:
    """The figures of this moment."""
    from moshi_mlx.cli.dashboard import Figures

    audio = duplex.status()
    return Figures(
        input_db=audio.input_level,
        output_db=audio.output_level,
        frame_ms=1000 * conversation.stats.frame_seconds(conversation.threaded),
        lag_ms=1000 * audio.lag,
        drops=audio.dropped,
        underruns=audio.underruns,
        echo=echo_text(control),
        muted=audio.muted,
        note=f"{' and '.join(audio.lost)} lost, waiting for it" if audio.lost else control.advice or "",
    )
