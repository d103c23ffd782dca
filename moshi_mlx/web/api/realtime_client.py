"""A client of /v1/realtime that talks with the model: its events, the turns of both sides, and its settings.

The model hears and speaks all the time, so nothing here makes it begin or stop. Turns that it makes of the
conversation are told as responses and items; what a client wants otherwise is refused in words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from moshi_mlx.conversation.turns import Speaker, Turn
from moshi_mlx.errors import MoshiError
from moshi_mlx.frames import FRAME_SECONDS
from moshi_mlx.tasks.words import Word
from moshi_mlx.web.api.errors import ApiError
from moshi_mlx.web.api.hearing_client import HearingClient
from moshi_mlx.web.api.realtime_events import field, new_id
from moshi_mlx.web.api.realtime_responses import Responses
from moshi_mlx.web.api.realtime_session import Abilities, Settings
from moshi_mlx.web.seat import Seat
from moshi_mlx.wire.query import PROMPTS

if TYPE_CHECKING:
    from moshi_mlx.runtime.reply import Reply
    from moshi_mlx.tasks.words import Pause
    from moshi_mlx.wire.query import ChatQuery

QUIET_SECONDS = 30.0  # of silence that the model is given after a commit, to answer in
_HEARS_ONLY = "this model hears and speaks; it reads no text"
_REMEMBERS = "what the model has heard cannot be taken from it"
_DECIDES = "this model decides by itself when it speaks: it has heard what was sent, and answers if it wants to"


class RealtimeClient(HearingClient):
    """One conversation in events of /v1/realtime. Times are seconds of the audio as the model heard it."""

    def __init__(self, query: ChatQuery, seat: Seat, model: str) -> None:
        super().__init__(query, seat, model, Settings("realtime", Abilities(model)), QUIET_SECONDS)
        conversation = new_id("conv")
        self._responses = Responses(
            self.emit, self._history, lambda: self._settings, conversation, self._count_unsent
        )
        self._captions_from = 0.0  # seconds at which they began
        self._told = False  # that the model decides by itself
        self.handlers |= {
            "output_audio_buffer.clear": self._clear_output,
            "response.create": self._create,
            "response.cancel": self._cancel,
            "conversation.item.truncate": self._truncate,
            "conversation.item.create": self._refuse_text,
            "conversation.item.delete": self._refuse_delete,
        }

    def _greet(self, seed: int) -> None:
        prompts, captions = self._model.prompts, self._model.captions
        voices = tuple(prompts.about["voices"]) if prompts else ()
        can = Abilities(self._model_name, voices, prompts is not None, captions.name if captions else None)
        voice, instructions = (self._asked.prompts.get(name, "") if prompts else "" for name in PROMPTS)
        self._settings = Settings("realtime", can, voice=voice, instructions=instructions)
        self.emit("session.created", session=self._settings.about(self.id))

    # What the client asks for.

    async def _apply(self, after: Settings) -> None:
        before = self._settings
        if (before.voice, before.instructions) != (after.voice, after.instructions):
            await self._begin_again(after)
        if after.transcribes and not before.transcribes:
            self._write_down()
        elif before.transcribes and not after.transcribes:
            self._captions.end()
            self._items.captioned = None

    async def _begin_again(self, settings: Settings) -> None:
        """Let a conversation with another voice or role take the place of one in which nothing was said."""
        if self._waiting or self._frames:
            words = "the voice and the instructions of a conversation are set before its first audio"
            raise ApiError(400, words, "session", "too_late")
        self._budget.control()
        asked: dict[str, str] = dict(zip(PROMPTS, (settings.voice, settings.instructions), strict=True))
        try:
            prompt = await self._prompt(asked)
        except MoshiError as error:
            raise ApiError(400, str(error), "session.instructions", "invalid_value") from error
        self.talking = False
        if self.slot:
            self.slot.leave()
        await self._join(prompt)
        self.talking = True

    def _write_down(self) -> None:
        """Let the words of the user be written down from the next frame on."""
        assert self._model.captions
        self._captions.begin(self._model.captions)
        coming = sum(isinstance(one, np.ndarray) for one in self._waiting)
        self._captions_from = self._tracker.seconds + FRAME_SECONDS * coming
        self._items.captioned = lambda: self._captions_from + self._captions.complete

    async def _clear_output(self, event: dict[str, Any]) -> None:
        self.socket.drop_audio()
        self._responses.clear()

    async def _create(self, event: dict[str, Any]) -> None:
        field(event, "response", dict, optional=True)
        if not (self._quiet or self._waiting):
            self._be_quiet(QUIET_SECONDS)
        if not self._told:
            self._told = True
            raise ApiError(400, _DECIDES, code="model_decides")

    async def _cancel(self, event: dict[str, Any]) -> None:
        self._responses.cancel(field(event, "response_id", str, optional=True))

    async def _truncate(self, event: dict[str, Any]) -> None:
        self._responses.truncate(
            field(event, "item_id", str), field(event, "content_index", int), field(event, "audio_end_ms", int)
        )

    async def _refuse_text(self, event: dict[str, Any]) -> None:
        raise ApiError(400, _HEARS_ONLY, "item", "unsupported_value")

    async def _refuse_delete(self, event: dict[str, Any]) -> None:
        raise ApiError(400, _REMEMBERS, "item_id", "unsupported_value")

    # What becomes of it.

    def _answer(self, reply: Reply) -> None:
        self._tracker.add(self._answered(), reply)
        self._responses.add(reply)
        self._pass_marks()
        self._items.advance(self._tracker.seconds)
        self._give_silence()

    def _began(self, speaker: Speaker, seconds: float) -> None:
        super()._began(speaker, seconds)
        if speaker == "moshi":
            self._responses.began()

    def _turn_ended(self, turn: Turn) -> None:
        super()._turn_ended(turn)
        if turn.speaker == "moshi":
            self._responses.ended(turn)

    def _captioned(self, found: Word | Pause) -> None:
        if self.talking and self._settings.transcribes and isinstance(found, Word):
            begin = self._captions_from
            self._items.word(Word(found.text, begin + found.start, begin + found.end))

    def _count_unsent(self) -> None:
        self._unsent += 1
