"""Access to a server: for its own pages only, and only with the token where other machines can reach it."""

from __future__ import annotations

import hmac
from collections.abc import Iterable

from aiohttp import web
from yarl import URL

COOKIE = "moshi_token"
LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
_OPEN = "/health"  # says nothing worth hiding, and is asked by programs without a token


class Access:
    """Checks requests.

    A page of another site can make a browser connect here, by its own DNS even under its own name; such requests
    are refused. names: hosts under which the server may be addressed, with any port. token: None for no token.
    """

    def __init__(self, names: Iterable[str] = LOCAL_NAMES, token: str | None = None) -> None:
        self.token = token
        self._names = {name.lower().rstrip(".") for name in names}

    def check(self, request: web.Request) -> None:
        """Let a request pass, or raise HTTPForbidden or HTTPUnauthorized."""
        host = request.headers.get("Host", "")
        if _address(f"http://{host}")[0] not in self._names:
            raise web.HTTPForbidden(text=f"this server is not {host[:100]!r}; see --allow-host\n")
        origin = request.headers.get("Origin")
        if origin is not None and _address(origin) != _address(f"{origin.partition('://')[0]}://{host}"):
            raise web.HTTPForbidden(text=f"pages of {origin[:100]!r} may not use this server\n")
        if self.token is not None and request.path != _OPEN and not self._has_token(request):
            raise web.HTTPUnauthorized(text="this server asks for its token: open the address that it printed\n")

    def _has_token(self, request: web.Request) -> bool:
        assert self.token is not None
        given = request.query.get("token") or request.cookies.get(COOKIE) or ""
        return hmac.compare_digest(given.encode(errors="replace"), self.token.encode())

    def remember(self, request: web.Request, response: web.StreamResponse) -> None:
        """Set a cookie with the token, so that a page that was opened with it can load its files."""
        if self.token is not None and request.query.get("token") == self.token:
            response.set_cookie(COOKIE, self.token, httponly=True, samesite="Strict", secure=request.secure)


def _address(url: str) -> tuple[str, int | None]:
    """Return host and port of a URL, the port of its scheme if it names none; no host for what is no URL."""
    try:
        parsed = URL(url)
        return (parsed.host or "").rstrip("."), parsed.port
    except ValueError:
        return "", None
