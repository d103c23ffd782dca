"""A live conversation: what surrounds the one loop while a person talks."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from moshi_mlx.conversation.repetition import LoopDetector
from moshi_mlx.runtime.engine import RESET, TRIM, Control, Sink, converse
from moshi_mlx.runtime.stats import Stats

if TYPE_CHECKING:
    from moshi_mlx.audio.echo.control import EchoControl
    from moshi_mlx.conversation.recorder import Recorder
    from moshi_mlx.conversation.trimming import ContextTrimmer
    from moshi_mlx.runtime.session import Reply, Session
    from moshi_mlx.runtime.trace import Trace


class LiveAudio(Protocol):
    """Microphone and speaker, as `audio.duplex.Duplex`."""

    muted: bool

    def __iter__(self) -> Iterator[np.ndarray]: ...

    def write(self, reply: Reply) -> None: ...

    def close(self) -> None: ...


State = Literal["ready", "muted", "listening", "reset", "refresh", "loop"]


class Observer:
    """Is told what happens in a conversation besides what is said; does nothing about it.

    Methods are called on several threads and should return at once.
    """

    def state(self, name: State) -> None:
        """The conversation is in a new state."""

    def losses(self, time: float, dropped: int, underruns: int) -> None:
        """Frames were dropped or the voice had gaps. time: seconds; dropped, underruns: how many so far."""

    def echo(self, time: float, control: EchoControl) -> None:
        """The echo is in a new state. time: seconds."""


class Conversation:
    """One person talking with one session until `close`; other threads may steer it.

    sinks: what else gets every reply, after the speaker. observer: is told of a reset after the last reply of the
    conversation before it, of a trimmed context, and of words that the model says for the third time. trimmer:
    says when the model forgets what is long ago. frames: how many there may be.
    """

    def __init__(
        self,
        session: Session,
        audio: LiveAudio,
        sinks: Sequence[Sink] = (),
        observer: Observer | None = None,
        recorder: Recorder | None = None,
        trimmer: ContextTrimmer | None = None,
        trace: Trace | None = None,
        frames: int | None = None,
    ) -> None:
        self.stats = Stats()
        self._session, self._audio, self._recorder = session, audio, recorder
        self._sinks = [*sinks, *(sink for sink in (recorder, trimmer) if sink)]
        self._observer = observer or Observer()
        self._trimmer = trimmer
        self._mark = trace.mark if trace else lambda name: None
        self._frames = frames
        self._reset = threading.Event()
        self._push_to_talk = False
        self._repetition = LoopDetector()
        self._time = -1.0  # of the latest reply, seconds
        if trace:
            trace.watch(self.stats)

    @property
    def threaded(self) -> bool:
        """Whether the codec works beside the model, and a frame costs what the slower of them takes."""
        return self._session.batch.moshi.codec.threaded

    def run(self) -> Stats:
        """Talk. The calling thread runs the model; an error in the audio is raised here."""
        return converse(self._session, self, self, self.stats)

    def __iter__(self) -> Iterator[np.ndarray | Control]:
        """The microphone's frames, with RESET where a new conversation was asked for, TRIM where it is due."""
        frames = islice(self._audio, self._frames)
        for frame in self._recorder.heard(frames) if self._recorder else frames:
            if self._reset.is_set():
                self._reset.clear()
                if self._trimmer:
                    self._trimmer.restart()
                self._mark("reset")
                yield RESET
            if self._trimmer and self._trimmer.due(frame):
                self._mark("refresh")
                yield TRIM
                self._observer.state("refresh")
            yield frame

    def write(self, reply: Reply) -> None:
        """Play a reply, give it to all other sinks, and see what it tells of the conversation."""
        self._audio.write(reply)
        if reply.time <= self._time:  # all replies before the reset have come
            self._repetition.forget()
            self._observer.state("reset")
        self._time = reply.time
        for sink in self._sinks:
            sink.write(reply)
        if reply.text and self._repetition.add(reply.text):
            self._observer.state("loop")

    def close(self) -> None:
        """End the conversation; from any thread."""
        self._audio.close()

    def reset(self) -> None:
        """Forget the conversation with the next frame and begin a new one."""
        self._reset.set()

    def trim(self) -> None:
        """Before the next frame forget all but the latest part of the conversation."""
        if self._trimmer:
            self._trimmer.ask()

    def toggle_mute(self) -> bool:
        """Close the model's ear, or open it; whether it is closed now."""
        self._push_to_talk = False
        self._audio.muted = not self._audio.muted
        return self._audio.muted

    def push_to_talk(self) -> bool:
        """The first push opens the ear, muted or not, the second closes it, and so on; whether one may speak now.

        A terminal does not tell when a key is let go, so every push turns it round.
        """
        self._audio.muted = self._push_to_talk and not self._audio.muted
        self._push_to_talk = True
        return not self._audio.muted
