"""What a person, or the program in their place, gets to see of a live conversation."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from moshi_mlx.cli.words import JsonLines, PlainText
from moshi_mlx.conversation.observer import Observer, State
from moshi_mlx.conversation.transcript import Transcript

if TYPE_CHECKING:
    from moshi_mlx.audio.echo.control import EchoControl
    from moshi_mlx.cli.dashboard import Figures
    from moshi_mlx.conversation.conversation import Conversation
    from moshi_mlx.runtime.stats import Stats

STATES = {  # what is said of a state
    "ready": "speak now",
    "reset": "a new conversation",
    "refresh": "Moshi has forgotten all but the last seconds",
    "loop": "Moshi repeats itself: f lets it forget most of the conversation, r begins a new one",
}
ECHO_STATES = {  # what is said of the echo in a log; of "lost" there is advice
    "no echo": "no echo is heard, and nothing done about it",
    "learning": "an echo is heard and being learnt",
    "cancelling": "the echo is taken out, {erle:.0f} dB of it",
}
PUSHED = "push-to-talk: speak, and push space again when done"


class Screen(Observer):
    """Everything that is said to the person: a live terminal, plain lines in a pipe, or JSON events."""

    def __init__(self, as_json: bool, quiet: bool, stream: TextIO) -> None:
        """stream: where to show things, see `own_stderr`."""
        self._stream = stream
        self._keys = stream.isatty()
        # Where the events go to the same terminal, a display that is redrawn would be torn by them.
        same = as_json and sys.stdout.isatty()
        self._live_terminal = stream.isatty() and not quiet and not same
        self._console: Any = None  # words are not cut at the end of a terminal's line
        if self._live_terminal:
            from rich.console import Console

            self._console = Console(file=stream)
        self._events = JsonLines(sys.stdout) if as_json else None
        self._transcript = Transcript()
        self._plain = None if quiet or self._live_terminal else PlainText(stream)
        self._dashboard: Any = None
        self._told_push = False
        words = None if same else self._plain
        self.sinks: list[Any] = [
            sink for sink in (self._transcript, self._events, words, self) if sink is not None
        ]

    def write(self, reply) -> None:
        """A reply, for the dashboard while there is one."""
        if self._dashboard is not None:
            self._dashboard.write(reply)

    def shown(self, now: Callable[[], Figures], conversation: Conversation):
        """The display and the keys, for as long as the block lasts."""
        from moshi_mlx.cli.dashboard import Dashboard
        from moshi_mlx.cli.keys import Keys

        stack = ExitStack()
        if self._live_terminal:
            self._dashboard = Dashboard(now, self._console)
            stack.callback(self._no_dashboard)
            stack.enter_context(self._dashboard)
        elif self._plain:
            stack.enter_context(self._plain)
        if self._keys:
            stack.enter_context(Keys(lambda key: self._pressed(key, conversation)))
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

    def state(self, name: State) -> None:
        """Say what state the conversation is in now."""
        if name == "reset" and self._dashboard is not None:
            self._dashboard.new_conversation()
        if self._events:
            self._events.emit("state", state=name)
        if name in STATES:
            self.say(STATES[name])

    def losses(self, time: float, dropped: int, underruns: int) -> None:
        """There are more of them; the display shows them anyway, and a log has them in its last line."""
        if self._events:
            self._events.emit("drops", t=round(time, 3), dropped=dropped, underruns=underruns)

    def echo(self, time: float, control: EchoControl) -> None:
        """The echo is in a new state; the display shows it anyway."""
        if self._events:
            self._events.emit("echo", t=round(time, 3), state=control.state, erle_db=round(control.erle, 1))
        if self._plain:
            self.say(control.advice or ECHO_STATES[control.state].format(erle=control.erle))

    def end(self, stats: Stats, losses: dict[str, int], seed: int, interrupted: bool, save: Path | None) -> None:
        """The last words."""
        if self._events:
            self._events.emit(
                "end",
                text=self._transcript.text,
                interrupted=interrupted,
                seed=seed,
                **losses,
                **stats.as_dict(),
            )
        lost = f"; {losses['dropped']} frames dropped, {losses['underruns']} underruns"
        self.say(stats.live_summary() + (lost if losses["dropped"] or losses["underruns"] else ""))
        if save:
            self.say(f"conversation in {save}")
        self.say(f"seed {seed}")

    def _pressed(self, key: str, conversation: Conversation) -> None:
        if key == "q":
            conversation.close()
        elif key == "f":
            conversation.trim()
        elif key == "r":
            conversation.reset()
        elif key == "m":
            self.state("muted" if conversation.toggle_mute() else "listening")
        elif key == " ":
            if not self._told_push:  # the microphone may have been open already: nothing else would change
                self._told_push = True
                self.say(PUSHED)
            self.state("listening" if conversation.push_to_talk() else "muted")

    def _no_dashboard(self) -> None:
        self._dashboard = None
