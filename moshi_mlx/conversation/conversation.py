"""A live conversation: what surrounds the loop while a person talks."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Protocol

import numpy as np

from moshi_mlx.conversation.observer import Observer
from moshi_mlx.conversation.repetition import RepetitionDetector
from moshi_mlx.conversation.turns import Turn, TurnTracker
from moshi_mlx.runtime.engine import Sink, converse
from moshi_mlx.runtime.reply import Reply
from moshi_mlx.runtime.stages import RESET, TRIM, Control
from moshi_mlx.runtime.stats import Stats
from moshi_mlx.tasks.words import Pause, Word

if TYPE_CHECKING:
    from moshi_mlx.conversation.draft import Draft
    from moshi_mlx.conversation.recorder import Recorder
    from moshi_mlx.conversation.rest import Idleness, Reloading
    from moshi_mlx.conversation.trimming import ContextTrimmer
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
    that is left. reloading: gives the models' memory back when the user has been silent, as `idleness` says, and
    the model is, too; loads them again, for a new conversation, when the user speaks or presses a key.
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
        reloading: Reloading | None = None,
        idleness: Idleness | None = None,
    ) -> None:
        self.stats = Stats()
        self.turns = TurnTracker(self._finished, self._complete if captions else None)
        self.threaded = session.batch.moshi.codec.threaded  # a frame takes as long as its slowest stage
        self._session: Session | None = None
        self._captions: Captioner | None = None
        self._trimmer = trimmer
        self._take(session, captions)
        self._audio, self._recorder = audio, recorder
        self._reloading, self._idleness = reloading, idleness
        self._heard: Iterator[np.ndarray] | None = None  # the microphone's frames, once it listens
        self._count = 0  # frames that the model heard
        self._rests = False  # the models' memory is given back, or about to be
        self._wanted = threading.Event()  # a key was pressed
        self._unanswered: deque[np.ndarray] = deque()  # frames whose reply has not come yet
        self._sinks = [*sinks, *([trimmer] if trimmer else [])]
        self._observer = observer or Observer()
        self._mark = trace.mark if trace else lambda name: None
        self._frames = frames
        self._reset = threading.Event()
        self._push_to_talk = False
        self._repetition = RepetitionDetector()
        self._time = -1.0  # of the latest reply, seconds
        if trace:
            trace.watch(self.stats)

    @property
    def rests(self) -> bool:
        """Whether the models' memory is given back, or about to be."""
        return self._rests

    @property
    def uses_push_to_talk(self) -> bool:
        """Whether the microphone opens and closes by push-to-talk now."""
        return self._push_to_talk

    def run(self) -> Stats:
        """Run the conversation. The calling thread runs the model; errors of the audio are raised here."""
        try:
            while True:
                assert self._session
                spare = self._captions.work if self._captions else None
                converse(self._session, _Microphone(self), self, self.stats, spare)
                if not (self._rests and self._reloading and self._rest(self._reloading)):
                    return self.stats
        finally:
            self.turns.close()

    def __iter__(self) -> Iterator[np.ndarray | Control]:
        """Yield the microphone's frames, with RESET where one was asked for and TRIM where it is due."""
        self._heard = self._heard or iter(self._audio)
        for frame in islice(self._heard, None if self._frames is None else self._frames - self._count):
            self._count += 1
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
            if self._idleness:
                self._idleness.hear(frame)
                if self._idleness.enough and not self.turns.speaking:
                    self._rests = True
                    return

    def _rest(self, reloading: Reloading) -> bool:
        """Do without the models until they are wanted again; return whether the conversation goes on."""
        assert self._idleness
        self.turns.close()
        self._mark("unloaded")
        self._session = self._captions = None
        self._wanted.clear()
        reloading.unload()
        self._observer.state("unloaded")
        self._idleness.restart()
        if not self._pass_time(lambda: self._wanted.is_set() or bool(self._idleness and self._idleness.speaks)):
            return False
        self._observer.state("loading")
        loaded = threading.Event()
        meanwhile = threading.Thread(target=self._pass_time, args=(loaded.is_set,), name="moshi-meanwhile")
        meanwhile.start()
        try:
            self._take(*reloading.load())
        finally:
            loaded.set()
            meanwhile.join()
        self._idleness.restart()
        self._rests = False
        self._observer.state("ready")
        return True

    def _pass_time(self, over: Callable[[], bool]) -> bool:
        """Answer frames with silence until it is over; return False if they end before."""
        assert self._heard
        assert self._idleness
        for frame in self._heard:
            self._idleness.hear(frame)
            self._audio.write(Reply(None, "", self._time))
            if over():
                return True
        return False

    def _take(self, session: Session, captions: Captioner | None) -> None:
        self._session, self._captions = session, captions
        if captions:
            captions.found = self._captioned
        if self._trimmer:
            self._trimmer.follow(session)

    def _complete(self) -> float:
        """Return the seconds up to which the user's words are known."""
        return self._captions.complete if self._captions else math.inf

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
        if not self._rests:  # else the next one is new in any case
            self._reset.set()
        self._wanted.set()

    def trim(self) -> None:
        """Before the next frame let the model forget all but the latest part of the conversation."""
        if self._trimmer:
            self._trimmer.ask()

    def toggle_mute(self) -> bool:
        """Mute the microphone, or open it, and end push-to-talk. Returns whether it is muted now."""
        self._push_to_talk = False
        self._wanted.set()
        self._audio.muted = not self._audio.muted
        return self._audio.muted

    def push_to_talk(self) -> bool:
        """Open the microphone with the first push, muted or not, mute it with the second, and so on.

        A terminal does not tell when a key is released. Returns whether the person may speak now.
        """
        self._wanted.set()
        self._audio.muted = self._push_to_talk and not self._audio.muted
        self._push_to_talk = True
        return not self._audio.muted


class _Microphone:
    """A conversation as the source of its frames: when it rests, the devices stay open."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation

    def __iter__(self) -> Iterator[np.ndarray | Control]:
        return iter(self._conversation)

    def close(self) -> None:
        if not self._conversation.rests:
            self._conversation.close()
