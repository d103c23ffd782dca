"""The addresses of realtime sessions: web sockets that speak in events."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from moshi_mlx.errors import ProtocolError
from moshi_mlx.web.api.errors import ApiError
from moshi_mlx.web.api.models import Models, ServedModel, Task
from moshi_mlx.web.api.realtime_client import RealtimeClient
from moshi_mlx.web.api.translation_client import TranslationClient
from moshi_mlx.web.client import Client, Seat
from moshi_mlx.wire.query import ChatQuery, read_query

Host = Callable[[web.Request, Callable[[Seat], Client]], Awaitable[web.StreamResponse]]


class Realtime:
    """The addresses. main: the model that talks. host: lets somebody talk, as `Server`."""

    def __init__(self, models: Models, main: ServedModel, host: Host) -> None:
        self._models, self._main, self._host = models, main, host

    def add_to(self, app: web.Application) -> None:
        """Add all addresses to an application."""
        app.router.add_get("/v1/realtime", self._talk)
        app.router.add_get("/v1/realtime/translations", self._translate)

    async def _talk(self, request: web.Request) -> web.StreamResponse:
        if "call_id" in request.query:
            raise ApiError(501, "this server takes no calls (WebRTC, SIP): connect without call_id", "call_id")
        query, model = _query(request), self._talking(request)
        return await self._host(request, lambda seat: RealtimeClient(query, seat, model.name))

    async def _translate(self, request: web.Request) -> web.StreamResponse:
        query, model = _query(request), self._talking(request)

        def translates() -> bool:
            return Task.TRANSLATE in model.tasks

        return await self._host(request, lambda seat: TranslationClient(query, seat, model.name, translates))

    def _talking(self, request: web.Request) -> ServedModel:
        """Return the model that a request names, or the one that talks. Raises ApiError for one that does not."""
        name = request.query.get("model") or self._main.name
        found = self._models.that_can(Task.TALK, name)
        if found is not self._main:
            raise ApiError(400, f"of this server's models only {self._main.name} talks", "model", "wrong_model")
        return found


def _query(request: web.Request) -> ChatQuery:
    """Return what a query asks for beside the model, by the names of /api/chat. Raises ApiError."""
    if request.headers.get("Upgrade", "").lower() != "websocket":
        raise ApiError(400, "connect to this address with a web socket")
    try:
        return read_query(request.query)
    except ProtocolError as error:
        raise ApiError(400, str(error)) from error
