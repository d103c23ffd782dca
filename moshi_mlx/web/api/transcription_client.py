"""A client of /v1/realtime that only wants to read what it says: a session of the type `transcription`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from moshi_mlx.conversation.turns import CAPTION_SECONDS, Turn
from moshi_mlx.runtime.reply import Reply
from moshi_mlx.tasks.words import Word, WordStream
from moshi_mlx.web.api.hearing_client import HearingClient
from moshi_mlx.web.api.realtime_session import Abilities, Detection, Settings
from moshi_mlx.web.seat import Seat, TalkSlot

if TYPE_CHECKING:
    from moshi_mlx.tasks.transcribe import Transcriber
    from moshi_mlx.web.model_pool import ServedModel
    from moshi_mlx.wire.query import ChatQuery

QUIET = CAPTION_SECONDS + 0.5  # of silence at most, in which the last words of an item are finished
STALLED = 2.0  # seconds without audio, after which it is given


class TranscriptionClient(HearingClient):
    """One session with a speech-to-text model that stands beside. Turns end where the model expects a pause, if it
    has the heads for that, else by the sound."""

    def __init__(self, query: ChatQuery, seat: Seat, model: ServedModel) -> None:
        super().__init__(query, seat, model.name, Settings("transcription", Abilities(model.name)), QUIET)
        self._served = model
        self._words: WordStream | None = None

    def _transcriber(self) -> Transcriber:
        return self._served.transcriber

    def _stream(self) -> WordStream:
        """What makes words of all tokens, of those of the silence before the session too."""
        if self._words is None:
            self._words = self._transcriber().live_words()
        return self._words

    def _settled(self, reply: Reply) -> None:
        assert reply.text_id is not None
        self._stream().push(reply.text_id, reply.vad)  # nobody has said anything yet

    def _greet(self, seed: int) -> None:
        transcriber, words = self._transcriber(), self._stream()
        vad = transcriber.finds_pauses
        can = Abilities(self._model_name, captions=self._model_name, vad=vad)
        detection = Detection("semantic_vad") if vad else Detection()
        self._settings = Settings("transcription", can, detection=detection, transcribes=True)
        self._items.captioned = lambda: words.complete
        self.emit("session.created", session=self._settings.about(self.id))

    def _answer(self, reply: Reply) -> None:
        self._tracker.add(self._answered(), Reply(None, "", reply.time))
        self._push(reply)
        self._pass_marks()
        self._items.advance(self._tracker.seconds)
        if not self._items.unfinished:
            self._quiet = 0
        self._give_silence()

    def _push(self, reply: Reply) -> None:
        assert reply.text_id is not None
        for found in self._stream().push(reply.text_id, reply.vad):
            if isinstance(found, Word):
                self._items.word(found)
            elif self._by_heads:
                self._items.ended(found.time)

    @property
    def _by_heads(self) -> bool:
        return self._settings.detection is not None and self._settings.detection.type == "semantic_vad"

    def _turn_ended(self, turn: Turn) -> None:
        if not (self._by_heads and self._items.has_words):  # a noise ends without the model's saying so
            super()._turn_ended(turn)

    def _report(self, slot: TalkSlot) -> None:
        if self._items.unfinished and not self._quiet and time.monotonic() - self._last_heard > STALLED:
            self._be_quiet(QUIET)
