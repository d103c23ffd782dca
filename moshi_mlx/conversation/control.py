"""A live conversation: what surrounds the one loop while a person talks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Protocol

import numpy as np

from moshi_mlx.audio.file_stream import Tee
from moshi_mlx.conversation.repetition import LoopDetector
from moshi_mlx.runtime.engine import RESET, TRIM, Control, Sink, converse
from moshi_mlx.runtime.stats import Stats

if TYPE_CHECKING:
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


class Live:
    """One person talking with one session until `close`; other threads may steer it.

    sinks: what else gets every reply, after the speaker. on_reset: called before the sinks get the first reply of
    a new conversation. on_loop: called when the model says the same words for the third time. frames: how many
    there may be. trimmer: says when the model forgets what is long ago, and then on_trim is called.
    """

    def __init__(
        self,
        session: Session,
        audio: LiveAudio,
        sinks: Sequence[Sink] = (),
        recorder: Recorder | None = None,
        trace: Trace | None = None,
        on_reset: Callable[[], None] | None = None,
        on_loop: Callable[[], None] | None = None,
        frames: int | None = None,
        trimmer: ContextTrimmer | None = None,
        on_trim: Callable[[], None] | None = None,
    ) -> None:
        self.stats = Stats()
        self._frames = frames
        self._session, self._audio, self._recorder = session, audio, recorder
        others: list[Sink] = [sink for sink in (recorder, trimmer) if sink]
        self._loops = _Loops(on_loop)
        self._sinks: list[Sink] = [audio, _Beginnings(self._begin_anew), *sinks, *others, self._loops]
        self._reset = threading.Event()
        self._trimmer = trimmer
        self._mark = trace.mark if trace else lambda name: None
        self._on_reset = on_reset or (lambda: None)
        self._on_trim = on_trim or (lambda: None)
        self._push_to_talk = False
        if trace:
            trace.watch(self.stats)

    @property
    def threaded(self) -> bool:
        """Whether the codec works beside the model, and a frame costs what the slower of them takes."""
        return self._session.batch.moshi.codec.threaded

    def run(self) -> Stats:
        """Talk. The calling thread runs the model; an error in the audio is raised here."""
        return converse(self._session, self, Tee(*self._sinks), self.stats)

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
                self._on_trim()
            yield frame

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

    def _begin_anew(self) -> None:
        self._loops.forget()
        self._on_reset()


class _Beginnings:
    """A sink that tells of every conversation but the first, when all replies before it have come."""

    def __init__(self, tell: Callable[[], None]) -> None:
        self._tell, self._time = tell, -1.0

    def write(self, reply: Reply) -> None:
        if reply.time <= self._time:
            self._tell()
        self._time = reply.time


class _Loops:
    """A sink that listens for loops."""

    def __init__(self, on_loop: Callable[[], None] | None) -> None:
        self._detector, self._tell = LoopDetector(), on_loop

    def write(self, reply: Reply) -> None:
        if self._tell and reply.text and self._detector.add(reply.text):
            self._tell()

    def forget(self) -> None:
        """What was said is no part of a loop."""
        self._detector.forget()
