"""What changes while a conversation goes on: frames lost, gaps in the voice, the state of the echo."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moshi_mlx.frames import FRAME_RATE

if TYPE_CHECKING:
    from moshi_mlx.audio.duplex import Duplex, DuplexStatus
    from moshi_mlx.audio.echo.control import EchoControl
    from moshi_mlx.cli.screen import Screen
    from moshi_mlx.runtime.session import Reply
    from moshi_mlx.runtime.trace import Trace

EVERY = round(FRAME_RATE)  # replies, a second, between two looks: a busy machine may drop a frame in every one


class Changes:
    """A sink that looks after every reply, tells the screen once a second, and the trace at once."""

    def __init__(self, audio: Duplex, echo: EchoControl, screen: Screen, trace: Trace | None = None) -> None:
        self._audio, self._echo, self._screen, self._trace = audio, echo, screen, trace
        self._replies = 0
        self._told, self._traced = (0, 0), (0, 0)  # frames dropped, underruns
        self._state = echo.state

    def write(self, reply: Reply) -> None:
        """After this reply has gone to the speaker."""
        status = self._audio.status()
        if self._trace:
            self._mark(status, self._trace)
        self._replies += 1
        if self._replies % EVERY:
            return
        losses = status.dropped, status.underruns
        if losses != self._told:
            self._told = losses
            self._screen.losses(reply.time, *losses)
        if self._echo.state != self._state:
            self._state = self._echo.state
            self._screen.echo(reply.time, self._echo)

    def _mark(self, status: DuplexStatus, trace: Trace) -> None:
        dropped, underruns = self._traced
        if status.dropped > dropped:
            trace.mark("dropped")
        if status.underruns > underruns:
            trace.mark("underrun")
        self._traced = status.dropped, status.underruns
        trace.level("lag", ms=round(1000 * status.lag, 1))
