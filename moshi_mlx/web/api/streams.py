"""Answers that are sent as they come."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from aiohttp import web

from moshi_mlx.web.api.errors import ApiError

EVENTS = "text/event-stream"


class StreamedAnswer:
    """An answer whose headers go with its first piece: until then it may still be refused.

    kind: of its content. stuck: seconds in which the client has to take a piece.
    All methods raise ConnectionError for a client that has gone, or takes nothing.
    """

    def __init__(self, request: web.Request, kind: str, stuck: float) -> None:
        self.response = web.StreamResponse(headers={"Content-Type": kind, "X-Accel-Buffering": "no"})
        self._request, self._stuck, self._events = request, stuck, kind == EVENTS

    async def send(self, data: bytes) -> None:
        """Send a piece."""
        try:
            await asyncio.wait_for(self._send(data), self._stuck)
        except asyncio.TimeoutError:
            raise ConnectionResetError("stuck") from None

    async def tell(self, **fields: Any) -> None:
        """Send an event."""
        await self.send(f"data: {json.dumps(fields, ensure_ascii=False)}\n\n".encode())

    async def end(self) -> web.StreamResponse:
        """Complete it."""
        await self.send(b"")
        await self.response.write_eof()
        return self.response

    async def fail(self, error: ApiError) -> web.StreamResponse:
        """Say why it ends here: by an event, or by breaking off. Raises the error if nothing was sent yet."""
        if not self.response.prepared:
            raise error
        if not self._events:
            raise ConnectionResetError(str(error)) from error
        await self.tell(error=error.body)
        return await self.end()

    async def _send(self, data: bytes) -> None:
        if not self.response.prepared:
            await self.response.prepare(self._request)
        if data:
            await self.response.write(data)
