"""What `moshi-mlx chat` and `python -m moshi_mlx.local` have in common: a live talk and what a person sees."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from moshi_mlx.cli.answer import INTERRUPTED
from moshi_mlx.errors import DownloadError

if TYPE_CHECKING:
    from moshi_mlx.audio.duplex import Duplex
    from moshi_mlx.audio.echo import EchoControl
    from moshi_mlx.cli.dashboard import Status
    from moshi_mlx.live import Live
    from moshi_mlx.sampling import SamplingConfig
    from moshi_mlx.stats import Stats


def talk(
    *,
    checkpoint: Mapping[str, Any],
    codec: str = "auto",
    kv_bits: int | None = None,
    devices: Mapping[str, str],
    echo: str = "auto",
    seed: int | None = None,
    sampling: Mapping[str, Any],
    save: Path | None = None,
    trace: Path | None = None,
    frames: int | None = None,
    as_json: bool = False,
    quiet: bool = False,
) -> None:
    """Talk until the person quits, and report on it.

    checkpoint, devices, sampling: what was given of the arguments of `Checkpoint.resolve`, `Duplex` and
    `SamplingConfig`. What can go wrong cheaply goes wrong first; the microphone opens when all is warm.
    """
    from dataclasses import replace

    from moshi_mlx.audio.devices import choose
    from moshi_mlx.audio.duplex import Duplex
    from moshi_mlx.audio.echo import EchoControl
    from moshi_mlx.moshi import assemble
    from moshi_mlx.trace import Trace

    choose("input", devices.get("input"))
    choose("output", devices.get("output"))
    control = EchoControl(echo)
    found = _resolve(checkpoint)
    screen = Screen(as_json, quiet)
    if found.note:
        screen.say(f"note: {found.note}")
    moshi = assemble(found, codec, kv_bits)
    chosen = replace(found.sampling, **sampling)
    with ExitStack() as stack:
        tracing = Trace(trace) if trace else None
        if tracing:
            stack.callback(tracing.close)
        screen.say("warming up")
        moshi.warm_up(sampling=chosen)
        session = stack.enter_context(moshi.session(seed, chosen))
        duplex = Duplex(**devices, echo=control, on_event=screen.device_event)
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
            on_loop=screen.loop,
            frames=frames,
        )
        interrupted = _converse(live, screen, duplex, control)
        screen.end(live.stats, duplex, session.seed, interrupted, save)
    if interrupted:
        raise typer.Exit(INTERRUPTED)


def _converse(live: Live, screen: Screen, duplex: Duplex, control: EchoControl) -> bool:
    """Run the conversation with its keys and its display; whether Ctrl-C ended it."""
    with screen.shown(lambda: status(live, duplex, control), live):
        screen.state("ready")
        try:
            live.run()
        except KeyboardInterrupt:
            live.close()
            return True
    return False


def _resolve(checkpoint: Mapping[str, Any]):
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


def status(live: Live, duplex: Duplex, control: EchoControl) -> Status:
    """The figures of this moment."""
    from moshi_mlx.cli.dashboard import Status

    audio = duplex.status()
    state = control.state
    erle = f" {control.erle:.0f} dB" if state == "cancelling" else ""
    return Status(
        input_db=audio.input_level,
        output_db=audio.output_level,
        frame_ms=1000 * live.stats.generate.percentile(50),
        lag_ms=1000 * audio.lag,
        drops=audio.dropped,
        underruns=audio.underruns,
        echo="" if state == "off" else f"{state}{erle}",
        muted=audio.muted,
        note=f"{' and '.join(audio.lost)} lost, waiting for it" if audio.lost else control.advice or "",
    )


class Screen:
    """Everything that is said to the person: a live terminal, plain lines in a pipe, or JSON events."""

    def __init__(self, as_json: bool, quiet: bool) -> None:
        from moshi_mlx.cli.transcript import JsonLines, PlainText, Transcript

        self._quiet = quiet
        self._live_terminal = sys.stderr.isatty() and not quiet
        self._events = JsonLines(sys.stdout) if as_json else None
        self._transcript = Transcript()
        self._plain = None if quiet or self._live_terminal else PlainText(sys.stderr)
        self._dashboard: Any = None
        self.sinks: list[Any] = [
            sink for sink in (self._transcript, self._events, self._plain, self) if sink is not None
        ]

    def write(self, reply) -> None:
        """A reply, for the dashboard while there is one."""
        if self._dashboard is not None:
            self._dashboard.write(reply)

    def shown(self, figures: Callable[[], Status], live: Live):
        """The display and the keys, for as long as the block lasts."""
        if not self._live_terminal:
            return nullcontext()
        from moshi_mlx.cli.dashboard import Dashboard
        from moshi_mlx.cli.keys import Keys

        self._dashboard = Dashboard(figures)
        stack = ExitStack()
        stack.callback(self._no_dashboard)
        stack.enter_context(self._dashboard)
        stack.enter_context(Keys(lambda key: self._pressed(key, live)))
        return stack

    def say(self, line: str) -> None:
        """A line that stays."""
        if self._dashboard is not None:
            self._dashboard.say(line)
        elif not self._quiet:
            print(line, file=sys.stderr, flush=True)

    def device_event(self, event) -> None:
        """Something happened to a device."""
        if self._events:
            self._events.emit("device", kind=event.kind, message=event.message)
        self.say(event.message)

    def state(self, name: str) -> None:
        """The conversation is in a new state."""
        if self._events:
            self._events.emit("state", state=name)
        words = {"ready": "speak now", "loop": "Moshi repeats itself; r begins a new conversation"}
        if name in words:
            self.say(words[name])

    def new_conversation(self) -> None:
        if self._dashboard is not None:
            self._dashboard.new_conversation()
        self.state("reset")

    def loop(self) -> None:
        self.state("loop")

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
                **stats.as_dict(),
            )
        lost = f"; {audio.dropped} frames dropped, {audio.underruns} underruns"
        self.say(stats.summary() + (lost if audio.dropped or audio.underruns else ""))
        if save:
            self.say(f"conversation in {save}")
        self.say(f"seed {seed}")

    def _pressed(self, key: str, live: Live) -> None:
        if key == "q":
            live.quit()
        elif key == "r":
            live.reset()
        elif key == "m":
            self.state("muted" if live.toggle_mute() else "listening")
        elif key == " ":
            self.state("listening" if live.push_to_talk() else "muted")

    def _no_dashboard(self) -> None:
        self._dashboard = None
