"""A client that speaks in events, JSON texts with a `type`: what all realtime sessions have in common."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from aiohttp import WSMessage, WSMsgType

from moshi_mlx.frames import FRAME_SECONDS, SAMPLE_RATE, silence
from moshi_mlx.runtime.flow import HeardFrame
from moshi_mlx.web.api.errors import ApiError
from moshi_mlx.web.api.realtime_events import (
    MAX_EVENT,
    error_event,
    event_id,
    new_id,
    read_event,
    unknown,
    written,
)
from moshi_mlx.web.client import Client
from moshi_mlx.web.client_socket import ClientSocket
from moshi_mlx.web.connections import Link
from moshi_mlx.web.intake import Intake
from moshi_mlx.web.limits import Limits
from moshi_mlx.web.live_slot import MOST
from moshi_mlx.web.seat import Asked, Seat

if TYPE_CHECKING:
    from moshi_mlx.runtime.reply import Reply

PROTOCOL = "realtime"  # that browsers name in their handshake
_EARLY = 200  # events that may come before the session is created,
_EARLY_CHARACTERS = 512 * 1024  # and how long they may be together


@dataclass(frozen=True)
class Mark:
    """A place in the audio that a client sends, where its event asks for something."""

    event_id: str | None


_AT_ONCE = 20.0  # seconds of audio that a model beside takes at once, within the budget of bytes,
_PACE = 2.5  # and then so many times as fast as it is spoken

Handler = Callable[[dict[str, Any]], Awaitable[None]]


class EventSocket(ClientSocket):
    """Speaks in events; pings are those of web sockets."""

    def __init__(self, limits: Limits, link: Link) -> None:
        super().__init__(limits, link, MAX_EVENT, (PROTOCOL,))

    def farewell(self, why: str) -> str:
        """Return an error."""
        return error_event(ApiError(400, why, code="session_ended"))


class EventClient(Client):
    """One conversation in events; those that come before the session is created wait for it.

    name: of the model. handlers: type of an event -> what does as it says; they may raise ApiError.
    """

    def __init__(self, asked: Asked, seat: Seat, model: str) -> None:
        super().__init__(asked, EventSocket(seat.limits, seat.link), seat)
        self.id = new_id("sess")
        self.handlers: dict[str, Handler] = {}
        self._model_name = model
        self._early: list[str] | None = []  # texts; None once the session is created
        self._waiting: deque[np.ndarray | Mark] = (
            deque()
        )  # frames that are not answered yet, and marks behind some
        self._forgotten = 0  # of those, frames that were dropped
        self._quiet = 0  # frames of silence that are still to be given
        self._moved = asyncio.Event()  # the model has taken a frame
        self._came = 0.0  # seconds of audio that came, to a model beside, which takes it as it comes,
        self._started = time.monotonic()  # since
        if seat.beside:
            self._intake = Intake(math.inf)

    def emit(self, type: str, /, *, is_audio: bool = False, **fields: Any) -> bool:
        """As of `Emit`."""
        text = written(type, **fields)
        if is_audio:
            return self.socket.post_audio(text)
        self.socket.post(text)
        return True

    async def _receive(self, message: WSMessage) -> None:
        if message.type is not WSMsgType.TEXT:
            self._refuse(ApiError(400, "events are texts, not binary messages", code="invalid_event"))
        elif self._early is None:
            await self._take_event(message.data)
        elif len(self._early) < _EARLY and sum(map(len, self._early)) + len(message.data) <= _EARLY_CHARACTERS:
            self._early.append(message.data)
        else:
            self._refuse(
                ApiError(400, "the session is not created yet: wait for session.created", code="too_early")
            )

    async def _take_event(self, text: str) -> None:
        id: str | None = None
        try:
            event = read_event(text)
            id = event_id(event)
            handler = self.handlers.get(event["type"])
            if handler is None:
                raise unknown(event["type"], list(self.handlers))
            await handler(event)
        except ApiError as error:
            self._refuse(error, id)

    def _refuse(self, error: ApiError, id: str | None = None) -> None:
        self._budget.ignored()
        self.socket.post(error_event(error, id))

    async def _take_all(self, pcm: np.ndarray) -> None:
        """Let the model hear audio; one beside not before it has taken most of what came, so that none is lost."""
        if self._beside and len(pcm):
            self._came += len(pcm) / SAMPLE_RATE
            await asyncio.sleep(self._started + (self._came - _AT_ONCE) / _PACE - time.monotonic())
            while self._beside.slot.waiting >= MOST:
                self._moved.clear()
                await self._moved.wait()
        self._take(pcm)

    def _send(self, reply: Reply) -> None:
        super()._send(reply)
        self._moved.set()

    def _hear(self, frame: np.ndarray) -> None:
        super()._hear(frame)
        self._waiting.append(frame)
        self._quiet = 0

    def _flush(self) -> None:
        """Let the model hear what is left of the audio that came, filled up with silence to a frame."""
        rest = self._intake.rest(time.perf_counter())
        if rest and self.slot and self.talking:
            self.slot.hear(rest)
            self._hear(rest.pcm)

    def _mark(self, mark: Mark) -> None:
        """Have `_reached` called when all that was heard so far is answered."""
        self._waiting.append(mark)
        self._pass_marks()

    def _reached(self, mark: Mark) -> None:
        """Do what was to be done there."""

    def _be_quiet(self, seconds: float) -> None:
        """Give the model silence until audio comes, but no longer than this: it answers in it."""
        self._quiet = round(seconds / FRAME_SECONDS)
        self._give_silence()

    def _give_silence(self) -> None:
        """Give the model a frame of silence, if it is to have one and no other frame is on its way."""
        if self._quiet and self.slot and not any(isinstance(one, np.ndarray) for one in self._waiting):
            self._quiet -= 1
            quiet = silence()
            self.slot.hear(HeardFrame(quiet, time.perf_counter(), True))
            self._captions.hear(quiet)
            self._waiting.append(quiet)

    def _answered(self) -> np.ndarray:
        """Return the frame that a reply answers, (1920,) float32; silence where the model was given that.

        When that is done with, `_pass_marks` is to be called.
        """
        lost = self.slot.heard.dropped if self.slot else 0
        while self._forgotten < lost:
            self._forgotten += 1
            self._pop()
        found = self._pop()
        return silence() if found is None else found

    def _pop(self) -> np.ndarray | None:
        self._pass_marks()
        found = self._waiting.popleft() if self._waiting else None
        assert not isinstance(found, Mark)
        return found

    def _pass_marks(self) -> None:
        """Do what was to be done when all before was answered."""
        while self._waiting and isinstance(mark := self._waiting[0], Mark):
            self._waiting.popleft()
            self._reached(mark)

    async def _stay(self) -> None:
        early, self._early = self._early or [], None
        for text in early:
            await self._take_event(text)
        await super()._stay()

    def _note(self, note: str) -> None:
        super()._note(note)
        self.socket.post(error_event(ApiError(400, note, code="not_as_asked")))
