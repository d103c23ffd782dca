"""The web socket of one client: messages that wait for it, and the end; what they say is the protocol's."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple

from aiohttp import WSCloseCode, web

from moshi_mlx.errors import MoshiError, ProtocolError
from moshi_mlx.web.budget import OverBudget
from moshi_mlx.web.connections import Link
from moshi_mlx.web.limits import Limits

MAX_REASON = 123  # bytes of a close frame


class Gone(Exception):
    """The client is no longer there."""


class Waiting(NamedTuple):
    """A message that waits for a client."""

    content: bytes | str
    is_audio: bool


class ClientSocket(web.WebSocketResponse):
    """A web socket with an outbox, so that nobody waits for a client; `deliver` and `watch` run as tasks.

    most: bytes of a message from the client.
    """

    def __init__(self, limits: Limits, link: Link, most: int, protocols: Iterable[str] = ()) -> None:
        super().__init__(
            compress=False,
            autoping=False,  # answering costs something: see `Client`
            max_msg_size=most + 1,  # the first size that aiohttp refuses
            heartbeat=limits.heartbeat,
            timeout=limits.goodbye,
            protocols=protocols,
        )
        self.outbox: deque[Waiting] = deque()
        self.begun = False  # some clients insist that the handshake comes first
        self.delivering = False  # a message is on its way
        self._most = most
        self._limits, self._link = limits, link
        self._filled = asyncio.Event()
        self._last_sent = time.monotonic()

    def farewell(self, why: str) -> bytes | str:
        """Return the message that tells the client why the conversation ends."""
        raise NotImplementedError

    def keepalive(self) -> bytes | str | None:
        """Return the message that breaks a silence, None for none."""
        return None

    def post(self, message: bytes | str, is_audio: bool = False) -> None:
        """Let a message wait for the client; it is dropped where too many wait."""
        if len(self.outbox) < self._limits.unsent_messages:
            self.outbox.append(Waiting(message, is_audio))
            self._filled.set()

    def post_audio(self, message: bytes | str) -> bool:
        """As `post`, but return whether there was room: so many frames of audio wait for a client and no more."""
        if sum(one.is_audio for one in self.outbox) >= self._limits.unsent:
            return False
        self.post(message, is_audio=True)
        return True

    def drop_audio(self) -> None:
        """Forget the audio that waits."""
        kept = [one for one in self.outbox if not one.is_audio]
        self.outbox.clear()
        self.outbox.extend(kept)

    async def deliver(self) -> None:
        """Send what is posted, for ever. Raises Gone."""
        while True:
            await self._filled.wait()
            self._filled.clear()
            while self.outbox:
                self.delivering = True
                self._last_sent = time.monotonic()
                try:
                    await self._send(self.outbox.popleft().content)
                except ConnectionError as error:
                    raise Gone("lost") from error
                self.delivering = False

    async def _send(self, message: bytes | str) -> None:
        await (self.send_str(message) if isinstance(message, str) else self.send_bytes(message))

    async def watch(self) -> None:
        """Break a silence that lasts by a ping. Raises Gone for a client that takes nothing.

        A task of its own: until Python 3.12 `asyncio.wait_for` may swallow the cancelling of its task.
        """
        while True:
            await asyncio.sleep(self._limits.ping / 4)
            silence = time.monotonic() - self._last_sent
            if self.delivering and silence > self._limits.stuck:
                raise Gone("stuck")
            ping = self.keepalive()
            if ping and self.begun and not self.delivering and silence > 0.7 * self._limits.ping:
                self.post(ping)

    async def say_goodbye(self, reason: BaseException | None, code: int | None) -> None:
        """Send what is left, tell the client why the conversation ends, if it still listens, and close.

        code: of the close; None for the one that follows from the reason.
        """
        code = _code_of(reason) if code is None else code
        if isinstance(reason, OverBudget):
            self._link.mute()  # what else it has sent is not worth reading, nor is its farewell

        async def finish() -> None:
            while self.outbox and not self.delivering:  # otherwise a message is half sent
                await self._send(self.outbox.popleft().content)
            if isinstance(reason, MoshiError):
                await self._send(self.farewell(str(reason)))
            why = str(reason).encode()[:MAX_REASON] if isinstance(reason, MoshiError) else b""
            await self.close(code=code, message=why.decode(errors="ignore").encode())

        with suppress(asyncio.TimeoutError, ConnectionError, RuntimeError):  # it has gone, or does not listen
            await asyncio.wait_for(finish(), 2 * self._limits.goodbye)

    async def close(self, *, code: int = WSCloseCode.OK, message: bytes = b"", drain: bool = True) -> bool:
        """Close; a client whose message aiohttp found too long is told so in the protocol's way first."""
        if code == WSCloseCode.MESSAGE_TOO_BIG and not self.closed:
            message = f"a message may have at most {self._most} bytes".encode()
            with suppress(ConnectionError):
                await self._send(self.farewell(message.decode()))
                # aiohttp closes at once then; with a part of the message unread the system resets the connection,
                # so that the client may never see why.
                self._link.discard()
                await asyncio.sleep(0.2 * self._limits.goodbye)
        return await super().close(code=code, message=message, drain=drain)


def _code_of(reason: BaseException | None) -> int:
    """Return the code of a close for this reason."""
    if isinstance(reason, ProtocolError):
        return WSCloseCode.POLICY_VIOLATION
    return WSCloseCode.INTERNAL_ERROR if reason and not isinstance(reason, Gone) else WSCloseCode.OK
