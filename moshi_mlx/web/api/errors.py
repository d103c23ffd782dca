"""What is refused, in the form of OpenAI's API: {"error": {"message", "type", "param", "code"}}."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

ROOT = "/v1/"
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}

Handle = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ApiError(Exception):
    """A request that is refused. status: of HTTP. param: the field that is wrong. code: for programs.

    headers: of the answer, such as Retry-After.
    """

    def __init__(
        self,
        status: int,
        message: str,
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.headers = headers or {}

    @property
    def body(self) -> dict[str, Any]:
        """The error as clients get it, also in an event of a stream or a web socket."""
        kind = _TYPES.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        return {"message": self.message, "type": kind, "param": self.param, "code": self.code}

    def response(self) -> web.Response:
        """The error as the answer of a request."""
        return web.json_response({"error": self.body}, status=self.status, headers=self.headers)


def is_api(path: str) -> bool:
    """Return whether a path of a request belongs to the API."""
    return path.startswith(ROOT)


@web.middleware
async def api_errors(request: web.Request, handler: Handle) -> web.StreamResponse:
    """Answer what is refused below /v1/ in the API's form, whoever refuses it; the outermost middleware."""
    if not is_api(request.path):
        return await handler(request)
    try:
        return await handler(request)
    except ApiError as error:
        return error.response()
    except ConnectionError:  # the client has gone, or takes nothing: there is nobody to be answered
        if request.transport:
            request.transport.abort()
        return web.Response(status=408)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return _of(error).response()


def _of(error: web.HTTPException) -> ApiError:
    if error.status == 404:
        return ApiError(404, "there is no such address here; docs/api.md lists those there are", code="not_found")
    if error.status == 405:
        return ApiError(405, f"this address does not take {getattr(error, 'method', 'this method')}")
    if error.status == 401:
        words = (
            "this server asks for its token: send it as `Authorization: Bearer TOKEN` (api_key of OpenAI's client)"
        )
        return ApiError(401, words, code="invalid_api_key")
    kept = {"Retry-After": seconds} if (seconds := error.headers.get("Retry-After")) else None
    return ApiError(error.status, (error.text or error.reason).strip(), headers=kept)
