"""A server for the page that does what a test tells it: it serves the files, accepts, speaks when told, echoes."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
from aiohttp import WSMsgType, web

from tests.ports import free_port

PAGE = Path(__file__).parents[1] / "moshi_mlx" / "web" / "page"
FRAME = 1920  # samples
# The strictest that a page without inline code can live under.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
INFO = {
    "model": "stub",
    "version": "0",
    "sampling": {
        "text_temperature": {"default": 0.7, "min": 0.0, "max": 2.0},
        "text_topk": {"default": 25, "min": 0, "max": 10000},
    },
    "max_sessions": 2,
}
READY = {"type": "state", "state": "ready", "model": "stub", "greeting": "Hello.", "questions": ["Who are you?"]}
SECONDS = 60.0


class PageServer:
    """Runs on a thread of its own. What clients sent is in `queries`, `controls` and `samples`.

    welcome: whether a client gets its handshake at once; otherwise `say` sends whatever a test wants.
    echo: whether audio goes back, in frames of `frame` samples.
    status: of every answer under /api, for one that lets nobody in. info: what it says of itself.
    """

    def __init__(self, frame: int = FRAME) -> None:
        self.port = free_port()  # also while the server is gone
        self.frame = frame
        self.welcome = self.echo = True
        self.status = 200
        self.info = dict(INFO)
        self.queries: list[dict[str, str]] = []
        self.controls: list[int] = []
        self.samples = 0
        self.counts: set[int] = set()  # samples of the audio messages
        self.loudest = self.last = 0.0  # sample: of all, and of the last message
        self._sockets: list[web.WebSocketResponse] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._end = asyncio.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def __enter__(self) -> PageServer:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def start(self) -> None:
        ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run(ready)), name="page server")
        self._thread.start()
        assert ready.wait(SECONDS)

    def stop(self) -> None:
        """Be gone, as if it had been ended; `start` brings it back under the same address."""
        if self._loop is None or self._thread is None:
            return
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(SECONDS)
        assert not self._thread.is_alive()
        self._loop = self._thread = None

    def connected(self) -> bool:
        """Whether somebody is there to be told anything."""
        return bool(self._sockets)

    def say(self, message: bytes) -> None:
        """Send a message to everybody."""
        self._do(lambda ws: ws.send_bytes(message))

    def tell(self, **metadata: Any) -> None:
        self.say(b"\x04" + json.dumps(metadata).encode())

    def hang_up(self, code: int) -> None:
        """Close every connection, and echo no more: what is sent meanwhile would break it off instead."""
        self.echo = False
        self._do(lambda ws: ws.close(code=code))

    def _do(self, action: Callable[[web.WebSocketResponse], Awaitable[Any]]) -> None:
        async def everybody() -> None:
            for ws in list(self._sockets):
                await action(ws)

        assert self._loop is not None
        asyncio.run_coroutine_threadsafe(everybody(), self._loop).result(SECONDS)

    async def _run(self, ready: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._end = asyncio.Event()
        app = web.Application(middlewares=[_guard])
        app.router.add_get("/", self._index)
        app.router.add_get("/api/info", self._info)
        app.router.add_get("/api/chat", self._chat)
        app.router.add_static("/", PAGE)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self.port, reuse_address=True).start()
        ready.set()
        await self._end.wait()
        for ws in list(self._sockets):
            await ws.close(code=1001)
        await runner.cleanup()

    async def _index(self, request: web.Request) -> web.StreamResponse:
        return web.FileResponse(PAGE / "index.html")

    async def _info(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(self.info, status=self.status)

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        self.queries.append(dict(request.query))
        if self.status != 200:
            return web.Response(status=self.status)
        ws = web.WebSocketResponse(compress=False)
        await ws.prepare(request)
        self._sockets.append(ws)
        part = np.zeros(0, np.float32)
        try:
            if self.welcome:
                await ws.send_bytes(b"\x00")
                await ws.send_bytes(b"\x04" + json.dumps(READY).encode())
            async for message in ws:
                if message.type != WSMsgType.BINARY:
                    continue
                kind, content = message.data[0], message.data[1:]
                if kind == 3:
                    self.controls.append(content[0])
                    await ws.send_bytes(b"\x04" + json.dumps({"type": "reset"}).encode())
                elif kind == 1:
                    pcm = np.frombuffer(content, "<f4")
                    self.samples += len(pcm)
                    self.counts.add(len(pcm))
                    self.last = float(np.abs(pcm).max(initial=0))
                    self.loudest = max(self.loudest, self.last)
                    part = np.concatenate([part, pcm])
                    while self.echo and len(part) >= self.frame:
                        await ws.send_bytes(b"\x01" + part[: self.frame].tobytes())
                        part = part[self.frame :]
        finally:
            self._sockets.remove(ws)
        return ws


@web.middleware
async def _guard(request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> Any:
    response = await handler(request)
    if not isinstance(response, web.WebSocketResponse):
        response.headers["Content-Security-Policy"] = POLICY
        response.headers["Cache-Control"] = "no-store"
    return response
