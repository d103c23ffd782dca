"""The web socket of one client: messages that wait for it, pings, and the end."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import suppress

from aiohttp import WSCloseCode, web

from moshi_mlx.errors import MoshiError, ProtocolError
from moshi_mlx.web.budget import OverBudget
from moshi_mlx.web.connections import Link
from moshi_mlx.web.limits import Limits
from moshi_mlx.wire import messages

MAX_REASON = 123  # bytes of a close frame


class Gone(Exception):
    """The client is no longer there."""


class ChatSocket(web.WebSocketResponse):
    """A web socket with an outbox, so that nobody waits for a client; `deliver` and `watch` run as tasks."""

    def __init__(self, limits: Limits, link: Link) -> None:
        super().__init__(
            compress=False,
            autoping=False,  # answering costs something: see `Client`
            max_msg_size=messages.MAX_MESSAGE + 1,  # the first size that aiohttp refuses
            heartbeat=limits.heartbeat,
            timeout=limits.goodbye,
        )
        self.outbox: deque[bytes] = deque()
        self._begun = False  # some clients insist that the handshake comes first
        self.delivering = False  # a message is on its way
        self._limits, self._link = limits, link
        self._filled = asyncio.Event()
        self._last_sent = time.monotonic()

    def post(self, message: bytes) -> None:
        """Let a message wait for the client; it is dropped where too many wait."""
        if len(self.outbox) < self._limits.unsent_messages:
            self.outbox.append(message)
            self._filled.set()

    def begin(self) -> None:
        """Let the handshake follow."""
        self._begun = True
        self.post(messages.HANDSHAKE)

    async def deliver(self) -> None:
        """Send what is posted, for ever. Raises Gone."""
        while True:
            await self._filled.wait()
            self._filled.clear()
            while self.outbox:
                self.delivering = True
                self._last_sent = time.monotonic()
                try:
                    await self.send_bytes(self.outbox.popleft())
                except ConnectionError as error:
                    raise Gone("lost") from error
                self.delivering = False

    async def watch(self) -> None:
        """Break a silence that lasts by a ping. Raises Gone for a client that takes nothing.

        A task of its own: until Python 3.12 `asyncio.wait_for` may swallow the cancelling of its task.
        """
        while True:
            await asyncio.sleep(self._limits.ping / 4)
            silence = time.monotonic() - self._last_sent
            if self.delivering and silence > self._limits.stuck:
                raise Gone("stuck")
            if self._begun and not self.delivering and silence > 0.7 * self._limits.ping:
                self.post(messages.PING)

    async def say_goodbye(self, reason: BaseException | None, code: int) -> None:
        """Send what is left, tell the client why the conversation ends, if it still listens, and close.

        code: of the close where nothing went wrong.
        """
        if isinstance(reason, ProtocolError):
            code = WSCloseCode.POLICY_VIOLATION
        elif reason and not isinstance(reason, Gone):
            code = WSCloseCode.INTERNAL_ERROR
        if isinstance(reason, OverBudget):
            self._link.mute()  # what else it has sent is not worth reading, nor is its farewell

        async def finish() -> None:
            while self.outbox and not self.delivering:  # otherwise a message is half sent
                await self.send_bytes(self.outbox.popleft())
            if isinstance(reason, MoshiError):
                await self.send_bytes(messages.error(str(reason)))
            why = str(reason).encode()[:MAX_REASON] if isinstance(reason, MoshiError) else b""
            await self.close(code=code, message=why.decode(errors="ignore").encode())

        with suppress(asyncio.TimeoutError, ConnectionError, RuntimeError):  # it has gone, or does not listen
            await asyncio.wait_for(finish(), 2 * self._limits.goodbye)

    async def close(self, *, code: int = WSCloseCode.OK, message: bytes = b"", drain: bool = True) -> bool:
        """Close; a client whose message aiohttp found too long is told so in the protocol's way first."""
        if code == WSCloseCode.MESSAGE_TOO_BIG and not self.closed:
            message = f"a message may have at most {messages.MAX_MESSAGE} bytes".encode()
            with suppress(ConnectionError):
                await self.send_bytes(messages.error(message.decode()))
                # aiohttp closes at once then; with a part of the message unread the system resets the connection,
                # so that the client may never see why.
                self._link.discard()
                await asyncio.sleep(0.2 * self._limits.goodbye)
        return await super().close(code=code, message=message, drain=drain)
