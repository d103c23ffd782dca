"""Access to a server: for its own pages only, and only with the token where other machines can reach it."""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable

from aiohttp import web
from yarl import URL

COOKIE = "moshi_token"
_KEY = "openai-insecure-api-key."  # before a token in a web socket's protocols, as OpenAI has it
LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
_FOR_PAGES = ("/api/", "/v1/")  # what pages of other sites may not use
# They say nothing worth hiding, and are asked by programs without a token, and under any name or none.
_OPEN = ("/health", "/health/alive")
_ORIGIN = re.compile(
    r"[a-z][a-z0-9+.-]*://(\[[0-9a-f:.]+\]|[^\s/\\?#@:\[\]]+)(:[0-9]{1,5})?", re.ASCII | re.IGNORECASE
)


class Access:
    """Checks requests. The token comes as `Authorization: Bearer`, in the query, or as the page's cookie.

    names: hosts under which the server may be addressed; any port. A page of another site can make a browser
    connect here (and by its own DNS even under its own name), so others are refused. token: None for no token.
    page_hosts: hosts, on any port, whose pages may talk with this server, as behind a proxy; among `names` too.
    origins: addresses ("https://example.com:8443") of pages served elsewhere that may.
    The page's own files are no secret and change nothing: they are given to pages of any origin.
    """

    def __init__(
        self,
        names: Iterable[str] = LOCAL_NAMES,
        token: str | None = None,
        page_hosts: Iterable[str] = (),
        origins: Iterable[str] = (),
    ) -> None:
        self.token = token
        self._page_hosts = {name.lower().rstrip(".") for name in page_hosts}
        self._names = {name.lower().rstrip(".") for name in names} | self._page_hosts
        self._origins = {_address(origin) for origin in origins}

    def check(self, request: web.Request) -> None:
        """Let a request pass, or raise HTTPForbidden or HTTPUnauthorized."""
        if request.path in _OPEN:
            return
        host = request.headers.get("Host", "")
        if _address(f"http://{host}")[0] not in self._names:
            raise web.HTTPForbidden(text=f"this server is not {host[:100]!r}; see --allow-host\n")
        origins = request.headers.getall("Origin", [])
        origin = " ".join(origins)  # of two, neither is believed
        if origins and request.path.startswith(_FOR_PAGES) and not self._may_talk(origin, host):
            raise web.HTTPForbidden(
                text=f"pages of {origin[:100]!r} may not use this server; see --allow-host and --allow-origin\n"
            )
        if self.token is not None and not self.asks_permission(request) and not self._has_token(request):
            raise web.HTTPUnauthorized(text="this server asks for its token: open the address that it printed\n")

    def asks_permission(self, request: web.Request) -> bool:
        """Return whether a browser asks, without a token, if a page may send what it wants to send (CORS)."""
        return request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers

    def may_read(self, request: web.Request) -> bool:
        """Return whether the page that a request is of may read the answer."""
        origins = request.headers.getall("Origin", [])
        return len(origins) == 1 and self._may_talk(origins[0], request.headers.get("Host", ""))

    def _may_talk(self, origin: str, host: str) -> bool:
        """Whether a page of `origin` may talk with a server addressed as `host`."""
        if not _ORIGIN.fullmatch(origin):  # no browser writes it
            return False
        place = _address(origin)
        same = _address(f"{origin.partition('://')[0]}://{host}")
        return bool(place[0]) and (place == same or place in self._origins or place[0] in self._page_hosts)

    def _has_token(self, request: web.Request) -> bool:
        assert self.token is not None
        scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
        bearer = bearer.strip() if scheme.lower() == "bearer" else ""
        given = bearer or _of_protocols(request) or request.query.get("token") or request.cookies.get(COOKIE) or ""
        return hmac.compare_digest(given.encode(errors="replace"), self.token.encode())

    def remember(self, request: web.Request, response: web.StreamResponse) -> None:
        """Set a cookie with the token, so that a page that was opened with it can load its files."""
        if self.token is not None and request.query.get("token") == self.token:
            response.set_cookie(COOKIE, self.token, httponly=True, samesite="Strict", secure=request.secure)


def _of_protocols(request: web.Request) -> str:
    """Return the token among a web socket's protocols, where pages of browsers put it: they can set no headers."""
    offered = request.headers.get("Sec-WebSocket-Protocol", "").split(",")
    found = (one.strip().removeprefix(_KEY) for one in offered if one.strip().startswith(_KEY))
    return next(found, "")


def _address(url: str) -> tuple[str, int | None]:
    """Return host and port of a URL, the port of its scheme if it names none; no host for what is no URL."""
    try:
        parsed = URL(url)
        return (parsed.host or "").rstrip("."), parsed.port
    except ValueError:
        return "", None
