"""What a person, or a program in their place, is shown of a live conversation."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from rich.console import Console

from moshi_mlx.cli.dashboard import Dashboard, Figures
from moshi_mlx.cli.keys import Keys
from moshi_mlx.cli.words import JsonLines
from moshi_mlx.conversation.history import turn_text
from moshi_mlx.conversation.observer import Observer, State
from moshi_mlx.conversation.transcript import Transcript
from moshi_mlx.tasks.words import Pause, Word

if TYPE_CHECKING:
    from moshi_mlx.audio.echo.control import EchoControl
    from moshi_mlx.audio.watchdog import DeviceEvent
    from moshi_mlx.conversation.conversation import Conversation
    from moshi_mlx.conversation.turns import Turn
    from moshi_mlx.runtime.engine import Sink
    from moshi_mlx.runtime.stats import Stats

STATES = {  # what a person is told of a state
    "ready": "speak now",
    "reset": "a new conversation begins",
    "unloaded": "nobody has spoken for a while, so the model's memory is given back: speak, or press m, to go on",
    "loading": "loading the model again",
    "refresh": "Moshi has forgotten all but the last seconds",
}
WARNINGS = {"loop": "Moshi repeats itself: f lets it forget most of the conversation, r begins a new one"}
CALMING = ("reset", "refresh")  # states after which a warning is of no use
ECHO_STATES = {  # what a log says of the echo; where it is lost, `EchoControl.advice`
    "no echo": "there is no echo, and nothing is done",
    "learning": "there is an echo; the canceller adapts to it",
    "cancelling": "the echo is attenuated by {erle:.0f} dB",
}


class Screen(Observer):
    """Shows a conversation: on a live terminal, as plain lines in a pipe, or as JSON events."""

    def __init__(self, as_json: bool, quiet: bool, stream: TextIO) -> None:
        """stream: where to show things, see `unsuppressed_stderr`."""
        self._stream = stream
        self._has_keys = stream.isatty()
        # Events that go to the same terminal would tear a display that is redrawn.
        torn = as_json and sys.stdout.isatty()
        self._console = Console(file=stream) if stream.isatty() and not quiet and not torn else None
        self._plain = not quiet and not self._console
        self._dashboard: Dashboard | None = None
        self._events = JsonLines(sys.stdout) if as_json else None
        self._transcript = Transcript()
        self._torn = torn
        self.sinks: list[Sink] = [sink for sink in (self._transcript, self._events) if sink]

    @property
    def has_keys(self) -> bool:
        """Whether a person can press keys."""
        return self._has_keys

    @contextmanager
    def shown(
        self, now: Callable[[], Figures], conversation: Conversation, more_keys: Mapping[str, Callable[[], str]]
    ) -> Iterator[None]:
        """Show the display and obey the keys, for as long as the block lasts.

        more_keys: key -> what it does besides what the conversation can do, and what to say then, "" for nothing.
        """
        with ExitStack() as stack:
            if self._console:
                self._dashboard = stack.enter_context(Dashboard(now, self._console))
            if self._has_keys:
                stack.enter_context(Keys(lambda key: self._pressed(key, conversation, more_keys)))
            yield

    def turn(self, turn: Turn) -> None:
        """Show a turn that is over, in a block of its own."""
        about: dict[str, object] = {"interrupted": True} if turn.interrupted else {}
        if turn.speaker == "user" and turn.text:
            about["text"] = turn.text
        self._emit("turn", speaker=turn.speaker, t=round(turn.begin, 3), end=round(turn.end, 3), **about)
        if self._dashboard:
            self._dashboard.turn(turn)
        elif not self._torn:
            self.say(turn_text(turn))

    def caption(self, event: Word | Pause) -> None:
        """Tell programs of a word of the user; a person reads it in the turn, once that is over."""
        if isinstance(event, Word):
            self._emit("caption", word=event.text, start=event.start, end=event.end)
        else:
            self._emit("pause", pause=event.time, p=round(event.probability, 4))

    def say(self, line: str) -> None:
        """Print a line, to stay."""
        if self._console:
            self._console.print(line, markup=False, highlight=False)
        elif self._plain:
            print(line, file=self._stream, flush=True)

    def note(self, text: str) -> None:
        """Say what is not as the person may think, however quiet it should be."""
        self._emit("note", text=text)
        self._say_always(f"note: {text}")

    def device_event(self, event: DeviceEvent) -> None:
        """Say what happened to a device, however quiet it should be: without it nobody is heard."""
        self._emit("device", kind=event.kind, message=event.message)
        self._say_always(event.message)

    def state(self, name: State) -> None:
        """Say what state the conversation is in now."""
        self._emit("state", state=name)
        if name in STATES:
            self.say(STATES[name])
        if self._dashboard and name in CALMING:
            self._dashboard.calm()
        if name in WARNINGS:
            self._dashboard.warn(WARNINGS[name]) if self._dashboard else self.say(WARNINGS[name])

    def losses(self, time: float, dropped: int, underruns: int) -> None:
        """Tell programs; the dashboard shows them anyway, and a log has them in its last line."""
        self._emit("drops", t=round(time, 3), dropped=dropped, underruns=underruns)

    def echo(self, time: float, control: EchoControl) -> None:
        """Say what becomes of the echo; the dashboard shows it anyway."""
        self._emit("echo", t=round(time, 3), state=control.state, erle_db=round(control.erle, 1))
        if self._plain:
            self.say(control.advice or ECHO_STATES[control.state].format(erle=control.erle))

    def end(self, stats: Stats, losses: dict[str, int], seed: int, interrupted: bool, save: Path | None) -> None:
        """Report on the conversation."""
        text = self._transcript.text
        self._emit("end", text=text, interrupted=interrupted, seed=seed, **losses, **stats.as_dict())
        lost = f"; {losses['dropped']} frames dropped, {losses['underruns']} underruns"
        self.say(stats.live_summary() + (lost if losses["dropped"] or losses["underruns"] else ""))
        if interrupted:
            kept = "all that was said is kept" if save else "nothing of it is kept (--keep keeps a conversation)"
            self.say(f"interrupted: the conversation has ended, and {kept}")
        if save:
            self.say(f"conversation in {save}")
        self.say(f"seed {seed}")

    def _say_always(self, line: str) -> None:
        if self._console or self._plain:
            self.say(line)
        else:
            print(line, file=self._stream, flush=True)

    def _emit(self, event: str, **values: object) -> None:
        if self._events:
            self._events.emit(event, **values)

    def _pressed(self, key: str, conversation: Conversation, more_keys: Mapping[str, Callable[[], str]]) -> None:
        if key == "q":
            conversation.close()
        elif key in more_keys:
            if line := more_keys[key]():
                self.say(line)
        elif key == "?":
            if self._dashboard:
                self._dashboard.toggle_help()
        elif key == "f":
            conversation.trim()
        elif key == "r":
            conversation.reset()
        elif key == "m":
            self.state("muted" if conversation.toggle_mute() else "listening")
        elif key == " ":
            self.state("listening" if conversation.push_to_talk() else "muted")
