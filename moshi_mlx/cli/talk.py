"""What `moshi-mlx chat` and `python -m moshi_mlx.local` have in common: a live talk and what a person sees."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import typer

from moshi_mlx.cli.answer import INTERRUPTED
from moshi_mlx.cli.interruption import interruptible
from moshi_mlx.errors import DownloadError

if TYPE_CHECKING:
    from moshi_mlx.audio.duplex import Duplex
    from moshi_mlx.audio.echo import EchoControl
    from moshi_mlx.checkpoint import Checkpoint
    from moshi_mlx.cli.dashboard import Figures
    from moshi_mlx.live import Live
    from moshi_mlx.moshi import Moshi
    from moshi_mlx.sampling import SamplingConfig
    from moshi_mlx.stats import Stats

STATES = {  # what is said of a state
    "ready": "speak now",
    "reset": "a new conversation",
    "refresh": "Moshi has forgotten all but the last seconds",
    "loop": "Moshi repeats itself: f lets it forget most of the conversation, r begins a new one",
}


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
    from moshi_mlx.refresh import KEPT_SECONDS, Refresher
    from moshi_mlx.trace import Trace

    with ExitStack() as stack:
        screen = Screen(as_json, quiet, stack.enter_context(own_stderr()))
        control, found, moshi, chosen = loaded(setup, screen)
        tracing = Trace(trace) if trace else None
        if tracing:
            stack.callback(tracing.close)
        screen.say("warming up")
        moshi.warm_up(sampling=chosen)
        if refresh:
            with moshi.session(0, chosen) as session:
                Refresher(session, refresh).warm_up(session)
        session = stack.enter_context(moshi.session(setup.seed, chosen))
        refresher = Refresher(session, refresh or KEPT_SECONDS, automatic=refresh is not None)
        duplex = Duplex(**setup.devices, echo=control, on_event=screen.device_event)
        stack.callback(duplex.close)
        for line in duplex.describe():
            screen.say(line)
        recorder = None
        if save:
            from moshi_mlx.audio.recorder import Recorder

            about = _about(found.name, session.seed, chosen, duplex)
            recorder = Recorder(save, about)
            stack.callback(lambda: recorder.close(dropped=duplex.status().dropped))
        from moshi_mlx.live import Live

        live = Live(
            session,
            duplex,
            screen.sinks,
            recorder,
            tracing,
            on_reset=screen.new_conversation,
            on_loop=lambda: screen.state("loop"),
            frames=frames,
            refresher=refresher,
            on_refresh=lambda: screen.state("refresh"),
        )
        interrupted = _converse(live, screen, duplex, control)
        screen.end(live.stats, duplex, session.seed, interrupted, save)
    if interrupted:
        raise typer.Exit(INTERRUPTED)


def loaded(setup: Setup, screen: Screen) -> tuple[EchoControl, Checkpoint, Moshi, SamplingConfig]:
    """Echo treatment, checkpoint, model, and how to sample. What can go wrong cheaply goes wrong first."""
    from dataclasses import replace

    from moshi_mlx.audio.devices import choose
    from moshi_mlx.audio.echo import EchoControl
    from moshi_mlx.moshi import assemble

    choose("input", setup.devices.get("input"))
    choose("output", setup.devices.get("output"))
    control = EchoControl(setup.echo)
    found = _resolve(setup.checkpoint)
    if found.note:
        screen.say(f"note: {found.note}")
    chosen = replace(found.sampling, **setup.sampling)
    return control, found, assemble(found, setup.codec, setup.kv_bits), chosen


def _converse(live: Live, screen: Screen, duplex: Duplex, control: EchoControl) -> bool:
    """Run the conversation with its keys and its display; whether Ctrl-C ended it."""
    with screen.shown(lambda: figures(live, duplex, control), live):
        screen.state("ready")
        try:
            with interruptible(live.close) as interruption:
                live.run()
        except KeyboardInterrupt:  # the second one
            live.close()
            return True
    return interruption.came


def _resolve(checkpoint: Mapping[str, Any]) -> Checkpoint:
    from moshi_mlx.checkpoint import Checkpoint

    try:
        return Checkpoint.resolve(**checkpoint)
    except DownloadError as error:
        raise DownloadError(f"{error}; --model nano is part of the package and can be tried meanwhile") from error


def _about(model: str, seed: int, sampling: SamplingConfig, duplex: Duplex) -> dict[str, Any]:
    """What session.json says of how a conversation was made."""
    from dataclasses import asdict

    from moshi_mlx.version import __version__

    return {
        "version": __version__,
        "model": model,
        "seed": seed,
        "sampling": asdict(sampling),
        "devices": duplex.describe(),
    }


def figures(live: Live, duplex: Duplex, control: EchoControl) -> Figures:
    """The figures of this moment."""
    from moshi_mlx.cli.dashboard import Figures

    audio = duplex.status()
    state = control.state
    erle = f" {control.erle:.0f} dB" if state == "cancelling" else ""
    return Figures(
        input_db=audio.input_level,
        output_db=audio.output_level,
        frame_ms=1000 * live.stats.frame_seconds(live.threaded),
        lag_ms=1000 * audio.lag,
        drops=audio.dropped,
        underruns=audio.underruns,
        echo="" if state == "off" else f"{state}{erle}",
        muted=audio.muted,
        note=f"{' and '.join(audio.lost)} lost, waiting for it" if audio.lost else control.advice or "",
    )


class Screen:
    """Everything that is said to the person: a live terminal, plain lines in a pipe, or JSON events."""

    def __init__(self, as_json: bool, quiet: bool, stream: TextIO) -> None:
        """stream: where to show things, see `own_stderr`."""
        from moshi_mlx.cli.transcript import JsonLines, PlainText, Transcript

        self._quiet, self._stream = quiet, stream
        self._live_terminal = stream.isatty() and not quiet
        self._console: Any = None  # words are not cut at the end of a terminal's line
        if self._live_terminal:
            from rich.console import Console

            self._console = Console(file=stream)
        self._events = JsonLines(sys.stdout) if as_json else None
        self._transcript = Transcript()
        self._plain = None if quiet or self._live_terminal else PlainText(stream)
        self._dashboard: Any = None
        self.sinks: list[Any] = [
            sink for sink in (self._transcript, self._events, self._plain, self) if sink is not None
        ]

    def write(self, reply) -> None:
        """A reply, for the dashboard while there is one."""
        if self._dashboard is not None:
            self._dashboard.write(reply)

    def shown(self, now: Callable[[], Figures], live: Live):
        """The display and the keys, for as long as the block lasts."""
        if not self._live_terminal:
            return self._plain or nullcontext()
        from moshi_mlx.cli.dashboard import Dashboard
        from moshi_mlx.cli.keys import Keys

        self._dashboard = Dashboard(now, self._console)
        stack = ExitStack()
        stack.callback(self._no_dashboard)
        stack.enter_context(self._dashboard)
        stack.enter_context(Keys(lambda key: self._pressed(key, live)))
        return stack

    def say(self, line: str) -> None:
        """A line that stays."""
        if self._console is not None:
            self._console.print(line, markup=False, highlight=False)
        elif self._plain:
            self._plain.end_line()
            print(line, file=self._stream, flush=True)

    def device_event(self, event) -> None:
        """Something happened to a device."""
        if self._events:
            self._events.emit("device", kind=event.kind, message=event.message)
        self.say(event.message)

    def state(self, name: str) -> None:
        """The conversation is in a new state."""
        if self._events:
            self._events.emit("state", state=name)
        if name in STATES:
            self.say(STATES[name])

    def new_conversation(self) -> None:
        if self._dashboard is not None:
            self._dashboard.new_conversation()
        self.state("reset")

    def end(self, stats: Stats, duplex: Duplex, seed: int, interrupted: bool, save: Path | None) -> None:
        """The last words."""
        audio = duplex.status()
        if self._events:
            self._events.emit(
                "end",
                text=self._transcript.text,
                interrupted=interrupted,
                seed=seed,
                dropped=audio.dropped,
                underruns=audio.underruns,
                stumbles=audio.stumbles,
                **stats.as_dict(),
            )
        lost = f"; {audio.dropped} frames dropped, {audio.underruns} underruns"
        self.say(stats.live_summary() + (lost if audio.dropped or audio.underruns else ""))
        if save:
            self.say(f"conversation in {save}")
        self.say(f"seed {seed}")

    def _pressed(self, key: str, live: Live) -> None:
        if key == "q":
            live.close()
        elif key == "f":
            live.refresh()
        elif key == "r":
            live.reset()
        elif key == "m":
            self.state("muted" if live.toggle_mute() else "listening")
        elif key == " ":
            self.state("listening" if live.push_to_talk() else "muted")

    def _no_dashboard(self) -> None:
        self._dashboard = None
