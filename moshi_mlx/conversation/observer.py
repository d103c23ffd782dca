"""What happens in a conversation besides what is said: who is told, and who notices what the audio shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from moshi_mlx.conversation.turns import Turn
from moshi_mlx.frames import FRAME_RATE

if TYPE_CHECKING:
    from moshi_mlx.audio.duplex import Duplex, DuplexStatus
    from moshi_mlx.audio.echo.control import EchoControl
    from moshi_mlx.runtime.reply import Reply
    from moshi_mlx.runtime.trace import Trace
    from moshi_mlx.tasks.words import Pause, Word

EVERY = round(FRAME_RATE)  # replies, a second, between two looks: a busy machine may drop a frame in every one

State = Literal["ready", "muted", "listening", "reset", "refresh", "loop", "unloaded", "loading"]
"""refresh: the context was trimmed. loop: the model repeats itself. unloaded: nobody spoke for a while, and the
model's memory was given back; loading: it is loaded again, before the next "ready". Programs read these names."""


class Observer:
    """Is told what happens in a conversation, and does nothing about it.

    Methods are called on several threads and should return at once.
    """

    def state(self, name: State) -> None:
        """Take note of a new state of the conversation."""

    def turn(self, turn: Turn) -> None:
        """Take note of a turn that is over."""

    def caption(self, event: Word | Pause) -> None:
        """Take note of a word of the user, or of a pause that is expected."""

    def losses(self, time: float, dropped: int, underruns: int) -> None:
        """Take note of dropped frames and gaps in the voice. time: seconds; dropped, underruns: so many by now."""

    def echo(self, time: float, control: EchoControl) -> None:
        """Take note of a new state of the echo. time: seconds."""


class AudioMonitor:
    """A sink that looks at the audio after every reply; it tells the observer once a second, the trace at once."""

    def __init__(self, audio: Duplex, echo: EchoControl, observer: Observer, trace: Trace | None = None) -> None:
        self._audio, self._echo, self._observer, self._trace = audio, echo, observer, trace
        self._replies = 0
        self._told, self._traced = (0, 0), (0, 0)  # frames dropped, underruns
        self._state = echo.state

    def write(self, reply: Reply) -> None:
        """Look, after this reply has gone to the speaker."""
        status = self._audio.status()
        losses = status.dropped, status.underruns
        if self._trace:
            self._mark(status, self._trace)
        self._replies += 1
        if self._replies % EVERY:
            return
        if losses != self._told:
            self._told = losses
            self._observer.losses(reply.time, *losses)
        if self._echo.state != self._state:
            self._state = self._echo.state
            self._observer.echo(reply.time, self._echo)

    def losses(self) -> dict[str, int]:
        """How much was lost so far, under names that programs read."""
        status = self._audio.status()
        return {
            "dropped": status.dropped,
            "underruns": status.underruns,
            "stumbles": status.xruns,
            "cleaned": status.cleaned,
        }

    def _mark(self, status: DuplexStatus, trace: Trace) -> None:
        dropped, underruns = self._traced
        if status.dropped > dropped:
            trace.mark("dropped")
        if status.underruns > underruns:
            trace.mark("underrun")
        self._traced = status.dropped, status.underruns
        trace.level("lag", ms=round(1000 * status.lag, 1))
