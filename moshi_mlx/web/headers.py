"""Headers that every answer has, those of aiohttp's own refusals too."""

from __future__ import annotations

from typing import Any

from aiohttp import web

HEADERS = {
    # The page loads nothing from elsewhere, and nobody else may frame it.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",  # the address may hold the token
    "Cache-Control": "no-cache",
    "Server": "moshi-mlx",  # no versions: /api/info tells those who may ask
}


RETRY = {"Retry-After": "5"}  # seconds; of an answer that refuses for now


async def complete(request: web.Request, response: web.StreamResponse) -> None:
    """Complete the headers of an answer, before it is sent; one that refuses is the last on its connection."""
    response.headers.update(HEADERS)
    if response.status >= 400:
        response.headers["Connection"] = "close"
        response.force_close()


class Handler(web.RequestHandler):
    """aiohttp's, whose answers to what is no request have the headers too."""

    def handle_error(self, *arguments: Any, **more: Any) -> web.StreamResponse:
        """Return the answer to what failed or could not be read."""
        response = super().handle_error(*arguments, **more)
        response.headers.update(HEADERS)
        return response
