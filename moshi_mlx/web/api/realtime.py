"""The addresses of realtime sessions: web sockets that speak in events."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from aiohttp import web

from moshi_mlx.errors import ProtocolError
from moshi_mlx.sampling_config import GREEDY
from moshi_mlx.web.api.errors import ApiError
from moshi_mlx.web.api.models import Models, ServedModel, Task
from moshi_mlx.web.api.realtime_client import RealtimeClient
from moshi_mlx.web.api.transcription_client import TranscriptionClient
from moshi_mlx.web.api.translation_client import TranslationClient
from moshi_mlx.web.api.work import Work
from moshi_mlx.web.client import Client
from moshi_mlx.web.live_slot import LiveSlot
from moshi_mlx.web.seat import Beside, Seat
from moshi_mlx.wire.query import ChatQuery, read_query


class Host(Protocol):
    """Lets somebody talk, as `Server`."""

    def __call__(
        self, request: web.Request, make: Callable[[Seat], Client], beside: Beside | None = None, /
    ) -> Awaitable[web.StreamResponse]:
        """Answer a request with what the client of a seat makes of it."""
        ...


class Realtime:
    """The addresses. main: the model that talks. work: with models beside it."""

    def __init__(self, models: Models, main: ServedModel, host: Host, work: Work) -> None:
        self._models, self._main, self._host, self._work = models, main, host, work

    def add_to(self, app: web.Application) -> None:
        """Add all addresses to an application."""
        app.router.add_get("/v1/realtime", self._realtime)
        app.router.add_get("/v1/realtime/translations", self._translate)

    async def _realtime(self, request: web.Request) -> web.StreamResponse:
        if "call_id" in request.query:
            raise ApiError(501, "this server takes no calls (WebRTC, SIP): connect without call_id", "call_id")
        query, name, intent = _query(request), request.query.get("model"), request.query.get("intent", "")
        if intent not in ("", "realtime", "conversation", "transcription"):
            raise ApiError(400, "intent=transcription, or none", "intent", "invalid_value")
        named = self._models.find(name) if name else None
        if intent == "transcription" or (named and named.tasks == {Task.TRANSCRIBE}):
            return await self._transcribe(request, query, self._models.that_can(Task.TRANSCRIBE, name))
        model = self._models.that_can(Task.TALK, name or self._main.name)
        if model is not self._main:
            raise ApiError(400, f"of this server's models only {self._main.name} talks", "model", "wrong_model")
        return await self._host(request, lambda seat: RealtimeClient(query, seat, model.name))

    async def _transcribe(self, request: web.Request, query: ChatQuery, model: ServedModel) -> web.StreamResponse:
        # Its very first frame, which a model never hears, is among those of silence.
        slot = LiveSlot(0, lambda moshi: GREEDY, lambda moshi: 1 + model.transcriber.settling)
        return await self._beside(request, model, slot, lambda seat: TranscriptionClient(query, seat, model))

    async def _translate(self, request: web.Request) -> web.StreamResponse:
        query = _query(request)
        model = self._models.find(request.query.get("model") or self._main.name)
        if model.tasks and not model.tasks & {Task.TALK, Task.TRANSLATE}:
            raise ApiError(400, f"{model.name} does neither translate nor talk", "model", "wrong_model")

        def make(seat: Seat) -> Client:
            return TranslationClient(query, seat, model.name, lambda: Task.TRANSLATE in model.tasks)

        if model is self._main:
            return await self._host(request, make)
        slot = LiveSlot(query.seed, lambda moshi: query.sampling(moshi.sampling), conditions=query.conditions)
        return await self._beside(request, model, slot, make)

    async def _beside(
        self, request: web.Request, model: ServedModel, slot: LiveSlot, make: Callable[[Seat], Client]
    ) -> web.StreamResponse:
        """Host a client with a model that is not the one that talks, or that does not talk."""
        answer: web.StreamResponse | None = None
        try:
            async with self._work.running(request, model, slot.steps, slot.ready) as job:
                slot.begin(job)
                answer = await self._host(request, make, Beside(slot, job))
        except ConnectionResetError:  # how the end of a socket looks to a request
            if answer is None:
                raise
        return answer


def _query(request: web.Request) -> ChatQuery:
    """Return what a query asks for beside the model, by the names of /api/chat. Raises ApiError."""
    if request.headers.get("Upgrade", "").lower() != "websocket":
        raise ApiError(400, "connect to this address with a web socket")
    try:
        return read_query(request.query)
    except ProtocolError as error:
        raise ApiError(400, str(error)) from error
