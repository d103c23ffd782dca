"""A live conversation: what surrounds the loop while a person talks."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Protocol

import numpy as np

from moshi_mlx.conversation.observer import Observer
from moshi_mlx.conversation.repetition import RepetitionDetector
from moshi_mlx.conversation.turns import Turn, TurnTracker
from moshi_mlx.runtime.engine import Sink, converse
from moshi_mlx.runtime.stages import RESET, TRIM, Control
from moshi_mlx.runtime.stats import Stats
from moshi_mlx.tasks.words import Pause, Word

if TYPE_CHECKING:
    from moshi_mlx.conversation.draft import Draft
    from moshi_mlx.conversation.recorder import Recorder
    from moshi_mlx.conversation.trimming import ContextTrimmer
    from moshi_mlx.runtime.reply import Reply
    from moshi_mlx.runtime.session import Session
    from moshi_mlx.runtime.trace import Trace
    from moshi_mlx.tasks.captioner import Captioner


class LiveAudio(Protocol):
    """Microphone and speaker, as `audio.duplex.Duplex`."""

    muted: bool  # frames are silent; set from any thread

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield frames as they come, (1920,) float32 at 24 kHz, until `close`."""
        ...

    def write(self, reply: Reply) -> None:
        """Play a reply. Never waits."""
        ...

    def close(self) -> None:
        """End the iteration; from any thread."""
        ...


class Conversation:
    """One person who talks with one session until `close`; other threads may control it.

    sinks: what else gets every reply, after the speaker. observer: is told of a reset (after the last reply before
    it), of a trimmed context, of repetition, and of every turn that is over. recorder: gets frames with their
    replies, and turns. trimmer: says when to trim the context. trace: gets the stages' times, resets and trims.
    frames: how many there may be, None for any number. captions: makes words of what the user says, in the time
    that is left.
    """

    def __init__(
        self,
        session: Session,
        audio: LiveAudio,
        sinks: Sequence[Sink] = (),
        observer: Observer | None = None,
        recorder: Recorder | Draft | None = None,
        trimmer: ContextTrimmer | None = None,
        trace: Trace | None = None,
        frames: int | None = None,
        captions: Captioner | None = None,
    ) -> None:
        self.stats = Stats()
        self.turns = TurnTracker(self._finished, (lambda: captions.complete) if captions else None)
        self._captions = captions
        if captions:
            captions.found = self._captioned
        self._session, self._audio, self._recorder = session, audio, recorder
        self._unanswered: deque[np.ndarray] = deque()  # frames whose reply has not come yet
        self._sinks = [*sinks, *([trimmer] if trimmer else [])]
        self._observer = observer or Observer()
        self._trimmer = trimmer
        self._mark = trace.mark if trace else lambda name: None
        self._frames = frames
        self._reset = threading.Event()
        self._push_to_talk = False
        self._repetition = RepetitionDetector()
        self._time = -1.0  # of the latest reply, seconds
        if trace:
            trace.watch(self.stats)

    @property
    def threaded(self) -> bool:
        """Whether the codec has threads of its own, so that a frame takes as long as its slowest stage."""
        return self._session.batch.moshi.codec.threaded

    @property
    def uses_push_to_talk(self) -> bool:
        """Whether the microphone opens and closes by push-to-talk now."""
        return self._push_to_talk

    def run(self) -> Stats:
        """Run the conversation. The calling thread runs the model; errors of the audio are raised here."""
        try:
            spare = self._captions.work if self._captions else None
            return converse(self._session, self, self, self.stats, spare)
        finally:
            self.turns.close()

    def __iter__(self) -> Iterator[np.ndarray | Control]:
        """Yield the microphone's frames, with RESET where one was asked for and TRIM where it is due."""
        for frame in islice(self._audio, self._frames):
            if self._reset.is_set():
                self._reset.clear()
                if self._trimmer:
                    self._trimmer.restart()
                self._mark("reset")
                if self._captions:
                    self._captions.reset()
                yield RESET
            if self._trimmer and self._trimmer.due(frame):
                self._mark("trim")
                yield TRIM
                self._observer.state("refresh")
            self._unanswered.append(frame)
            if self._captions:
                self._captions.hear(frame)
            yield frame

    def write(self, reply: Reply) -> None:
        """Play a reply, pass it to all other sinks, and tell the observer what it shows."""
        self._audio.write(reply)
        if reply.time <= self._time:  # all replies before the reset have come
            self._repetition.forget()
            self.turns.close()
            self._observer.state("reset")
        self._time = reply.time
        frame = self._unanswered.popleft()
        if self._recorder:
            self._recorder.add(frame, reply)
        for sink in self._sinks:
            sink.write(reply)
        self.turns.add(frame, reply)
        if reply.text and self._repetition.add(reply.text):
            self._observer.state("loop")

    def _captioned(self, event: Word | Pause) -> None:
        """Take what the captions found."""
        if isinstance(event, Word):
            self.turns.hear(event)
        self._observer.caption(event)

    def _finished(self, turn: Turn) -> None:
        if self._recorder:
            self._recorder.turn(turn)
        self._observer.turn(turn)

    def close(self) -> None:
        """End the conversation; from any thread."""
        self._audio.close()

    def reset(self) -> None:
        """Begin a new conversation with the next frame."""
        self._reset.set()

    def trim(self) -> None:
        """Before the next frame let the model forget all but the latest part of the conversation."""
        if self._trimmer:
            self._trimmer.ask()

    def toggle_mute(self) -> bool:
        """Mute the microphone, or open it, and end push-to-talk. Returns whether it is muted now."""
        self._push_to_talk = False
        self._audio.muted = not self._audio.muted
        return self._audio.muted

    def push_to_talk(self) -> bool:
        """Open the microphone with the first push, muted or not, mute it with the second, and so on.

        A terminal does not tell when a key is released. Returns whether the person may speak now.
        """
        self._audio.muted = self._push_to_talk and not self._audio.muted
        self._push_to_talk = True
        return not self._audio.muted
