"""The addresses below /v1/: what is there, and what is refused in words."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from aiohttp import web

from moshi_mlx.web.access import Access
from moshi_mlx.web.api.errors import ROOT, ApiError, is_api
from moshi_mlx.web.api.models import Models
from moshi_mlx.web.api.speech import Speech
from moshi_mlx.web.api.transcriptions import Transcriptions
from moshi_mlx.web.api.uploads import Uploads
from moshi_mlx.web.api.work import Work
from moshi_mlx.web.jobs import Jobs
from moshi_mlx.web.limits import Limits
from moshi_mlx.web.model_pool import ModelPool

if TYPE_CHECKING:
    from moshi_mlx.web.connections import Link

_SPEECH_ONLY = "this server's models hear and speak; they are no text models"
_CONSENT = "voices are not made here from samples: take one of GET /v1/audio/voices"
ELSEWHERE = {
    "chat/completions": _SPEECH_ONLY,
    "completions": _SPEECH_ONLY,
    "responses": _SPEECH_ONLY,
    "embeddings": _SPEECH_ONLY,
    "moderations": _SPEECH_ONLY,
    "images": "this server's models hear and speak; they make no images",
    "files": "this server keeps no files: send the audio with the request",
    "batches": "this server takes no batches: send requests one by one",
    "fine_tuning": "models are not trained through this server; see `moshi-mlx finetune`",
    "audio/voices": _CONSENT,
    "audio/voice_consents": _CONSENT,
    "realtime/calls": "this server takes no calls (WebRTC, SIP): connect a web socket to /v1/realtime",
    "realtime/client_secrets": "this server gives no short-lived keys: use its token",
    "realtime/sessions": "this server gives no short-lived keys: use its token",
    "realtime/transcription_sessions": "this server gives no short-lived keys: use its token",
}
"""Addresses that OpenAI has and this server refuses, whatever the method, and the words for people."""


class Api:
    """The addresses, on the event loop.

    access: whose pages may talk with this server; pages of others need its permission (CORS). link_of, problem: as
    of `Work`.
    """

    def __init__(
        self,
        pool: ModelPool,
        jobs: Jobs,
        access: Access,
        limits: Limits,
        link_of: Callable[[web.Request], Link],
        problem: Callable[[], str],
    ) -> None:
        self.models, self._access = Models(pool.models), access
        self.work = Work(jobs, pool, link_of, limits.answer, problem)
        self.uploads = Uploads(limits.max_seconds, limits.upload)
        self._speech = Speech(self.models, self.work)
        self._transcriptions = Transcriptions(self.models, self.uploads, self.work, limits.tail)

    def close(self) -> None:
        """Begin nothing any more."""
        self.work.close()
        self.uploads.close()

    def add_to(self, app: web.Application) -> None:
        """Add all addresses to an application."""
        app.router.add_get("/v1/models", self._list)
        app.router.add_get("/v1/models/{name:.+}", self._one)
        app.router.add_post("/v1/audio/speech", self._speech.say)
        app.router.add_get("/v1/audio/voices", self._speech.voices)
        app.router.add_get("/v1/audio/voices/{name:.+}", self._speech.voice)
        app.router.add_post("/v1/audio/transcriptions", self._transcriptions.transcribe)
        app.router.add_post("/v1/audio/translations", self._transcriptions.translate)
        app.router.add_route("*", ROOT + "{rest:.*}", self._other)
        app.on_response_prepare.append(self._permit)

    async def _list(self, request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [model.about() for model in self.models]})

    async def _one(self, request: web.Request) -> web.Response:
        return web.json_response(self.models.find(request.match_info["name"]).about())

    async def _other(self, request: web.Request) -> web.Response:
        if request.method == "OPTIONS" and self._access.asks_permission(request):
            return web.Response(status=204)
        rest = request.match_info["rest"].strip("/")
        for path, words in ELSEWHERE.items():
            if rest == path or rest.startswith(f"{path}/"):
                raise ApiError(501, words, code="not_implemented")
        raise web.HTTPNotFound

    async def _permit(self, request: web.Request, response: web.StreamResponse) -> None:
        """Tell a browser that a page served elsewhere may read the answer, where it may."""
        origin = request.headers.get("Origin")
        if origin is None or not is_api(request.path) or not self._access.may_read(request):
            return
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Vary"] = "Origin"
        if request.method == "OPTIONS":
            response.headers["Access-Control-Allow-Methods"] = "GET, POST"
            # What OpenAI's JavaScript client sends beside the usual; all that is asked for is let through.
            asked = request.headers.get("Access-Control-Request-Headers", "")
            response.headers["Access-Control-Allow-Headers"] = asked
            response.headers["Access-Control-Max-Age"] = "600"
