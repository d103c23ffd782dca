"""The web socket of a client: messages that are too long are refused before they are here."""

from __future__ import annotations

from contextlib import suppress

from aiohttp import WSCloseCode, web

from moshi_mlx.wire import messages as wire


class ChatSocket(web.WebSocketResponse):
    """aiohttp closes at a message that is too long; here the client is told why in the protocol's way."""

    def __init__(self, heartbeat: float, goodbye: float) -> None:
        # aiohttp's limit is the first size that is too long.
        super().__init__(compress=False, max_msg_size=wire.MAX_MESSAGE + 1, heartbeat=heartbeat, timeout=goodbye)

    async def close(self, *, code: int = WSCloseCode.OK, message: bytes = b"", drain: bool = True) -> bool:
        if code == WSCloseCode.MESSAGE_TOO_BIG and not self.closed:
            with suppress(ConnectionError):
                await self.send_bytes(wire.error(f"a message may have {wire.MAX_MESSAGE} bytes, no more"))
        return await super().close(code=code, message=message, drain=drain)
