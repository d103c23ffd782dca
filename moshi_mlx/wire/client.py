"""A client of Kyutai's protocol, for programs that use asyncio: of `moshi-mlx serve`, or of Kyutai's own servers.

>>> async with connect("http://localhost:8998", seed=1) as talk:
...     await talk.send(frame)  # (1920,) float32, or any other number of samples
...     async for message in talk:
...         ...  # AudioFrame, TextPiece or Metadata

Not here: what a server does (see `web`).
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import aiohttp
import numpy as np
from yarl import URL

from moshi_mlx.errors import ClientError, ProtocolError
from moshi_mlx.frames import FRAME_SAMPLES, FRAME_SECONDS, checked_audio, split_frames
from moshi_mlx.wire import messages
from moshi_mlx.wire.audio import AUDIO_WIRES
from moshi_mlx.wire.messages import Kind

PATH = "/api/chat"
MAX_REPLY = 4 * 1024 * 1024  # bytes of one message from a server
_MOST_SHOWN = 300  # characters of a server's words


@dataclass(frozen=True)
class AudioFrame:
    """80 ms of the model's voice: (1920,) float32 at 24 kHz."""

    pcm: np.ndarray


@dataclass(frozen=True)
class TextPiece:
    """A piece of the model's words; words begin with a space."""

    text: str


@dataclass(frozen=True)
class Metadata:
    """What a server tells of itself or of the conversation; docs/serve.md lists the fields."""

    fields: dict[str, Any]


Message = AudioFrame | TextPiece | Metadata


@asynccontextmanager
async def connect(
    url: str,
    *,
    token: str | None = None,
    audio: str = "pcm",
    seed: int | None = None,
    query: Mapping[str, str | int | float] | None = None,
    waiting: Callable[[dict[str, Any]], object] = lambda fields: None,
    tls: ssl.SSLContext | bool = True,
) -> AsyncIterator[Talk]:
    """Open a conversation, wait until it begins, and close it at the end of the block.

    url: of a server, as it prints it: http, https, ws or wss, with its token or without; `/api/chat` may be
    left out. audio: how audio travels: `pcm`, float32 samples, or `opus`, which Kyutai's own servers want.
    query: what else is asked for, by the names of docs/serve.md. waiting: is told, before the beginning, what the
    server is doing: fields of metadata of the type `state`. tls: False takes any certificate, as that of `--lan`.
    Raises ClientError for a server that is not there, refuses, or ends before the beginning; ProtocolError for one
    that speaks otherwise.
    """
    target = _address(url, token, audio, {**({} if seed is None else {"seed": seed}), **(query or {})})
    # How long the line may be is not ours to say: connecting alone has a limit.
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=30)
    async with aiohttp.ClientSession(timeout=timeout) as http:
        try:
            socket = await http.ws_connect(target, ssl=tls, max_msg_size=MAX_REPLY)
        except aiohttp.WSServerHandshakeError as error:
            why = await _why(http, target, error.status, tls)
            raise ClientError(f"{_shown(target)} refuses: {why}") from error
        except (aiohttp.ClientError, OSError, asyncio.TimeoutError) as error:
            reason = getattr(error, "strerror", None) or error or "it does not answer"
            raise ClientError(f"cannot connect to {_shown(target)}: {reason}; is the server running?") from error
        talk = Talk(socket, audio)
        try:
            await talk.begin(waiting)
            yield talk
        finally:
            await talk.close()


class Talk:
    """One conversation with a server. `send` and the iteration may run as tasks of their own.

    Iterate over it for what the server says, until it or `close` ends the conversation. Raises ClientError where
    the server says why it ends, or the connection breaks; ProtocolError for what is no message.
    """

    def __init__(self, socket: aiohttp.ClientWebSocketResponse[bool], audio: str) -> None:
        self.about: dict[str, Any] = {}  # what the server tells of its model when the conversation begins
        self._socket = socket
        self._wire = AUDIO_WIRES[audio]()
        self._part = np.zeros(0, np.float32)  # of the server's voice, less than a frame
        self._unsent = np.zeros(0, np.float32)  # less than a frame, where audio is sent in frames
        self._in_frames = audio != "pcm"
        self._said = ""  # why the server ends
        self._closed = False  # by us
        self._kept: list[Message] = []  # came with the beginning

    async def begin(self, waiting: Callable[[dict[str, Any]], object]) -> None:
        """Wait for the beginning; `connect` does."""
        while True:
            kind, content = await self._next()
            if kind == Kind.HANDSHAKE:
                return
            if kind == Kind.METADATA:
                fields = _fields(content)
                if fields.get("type") == "state":
                    waiting(fields)
                else:
                    self._kept.append(Metadata(fields))

    async def send(self, pcm: np.ndarray) -> None:
        """Send audio, (n,) float32 at 24 kHz, as fast as it is spoken. Raises ClientError, SessionError.

        A server drops what comes more than two seconds ahead of time. As Opus, audio leaves in whole frames.
        """
        pcm = checked_audio(pcm)
        if self._in_frames:
            pcm = np.concatenate([self._unsent, pcm])
            whole = len(pcm) // FRAME_SAMPLES * FRAME_SAMPLES
            self._unsent = pcm[whole:]
            payloads = [self._wire.write(frame) for frame in split_frames(pcm[:whole])]
        else:
            most = (messages.MAX_MESSAGE - 1) // 4
            payloads = [self._wire.write(pcm[start : start + most]) for start in range(0, len(pcm), most)]
        for payload in payloads:
            if payload:
                await self._send(messages.audio(payload))

    async def say(self, pcm: np.ndarray) -> None:
        """Send a recording, (samples,) float32, as fast as it is spoken; silence fills up the last frame."""
        clock = asyncio.get_running_loop().time
        begin = clock()
        for number, frame in enumerate(split_frames(pcm)):
            await asyncio.sleep(begin + number * FRAME_SECONDS - clock())
            await self.send(frame)

    async def restart(self) -> None:
        """Ask for a new conversation on this connection."""
        await self._send(bytes([Kind.CONTROL, messages.RESTART]))

    async def close(self) -> None:
        """End the conversation; calling it twice is fine."""
        self._closed = True
        await self._socket.close()

    async def __aiter__(self) -> AsyncIterator[Message]:
        """Yield what the server says."""
        while self._kept:
            yield self._kept.pop(0)
        while not self._socket.closed:
            try:
                kind, content = await self._next()
            except _Ended:
                return
            if kind == Kind.AUDIO:
                for frame in self._frames(content):
                    yield AudioFrame(frame)
            elif kind == Kind.TEXT:
                yield TextPiece(content.decode(errors="replace"))
            elif kind == Kind.METADATA:
                fields = _fields(content)
                if fields.get("state") == "ready":
                    self.about = fields
                yield Metadata(fields)

    def _frames(self, payload: bytes) -> list[np.ndarray]:
        pcm = np.concatenate([self._part, self._wire.read(payload)])
        whole = len(pcm) // FRAME_SAMPLES * FRAME_SAMPLES
        self._part = pcm[whole:]
        return list(pcm[:whole].reshape(-1, FRAME_SAMPLES))

    async def _next(self) -> tuple[int, bytes]:
        """Return the next message. Raises _Ended for a good end, else ClientError or ProtocolError."""
        while True:
            message = await self._socket.receive()
            if message.type is aiohttp.WSMsgType.BINARY and message.data:
                kind, content = message.data[0], bytes(message.data[1:])
                if kind != Kind.ERROR:
                    return kind, content
                self._said = content.decode(errors="replace")[:_MOST_SHOWN]
            elif message.type is aiohttp.WSMsgType.CLOSE:
                self._said = self._said or str(message.extra or "")
                if message.data not in (aiohttp.WSCloseCode.OK, 0, None):  # 0: it gave no code
                    raise ClientError(f"the server ended the conversation: {self._said or message.data}")
                raise _Ended("the server ended the conversation before it began")
            elif message.type in (aiohttp.WSMsgType.CLOSING, aiohttp.WSMsgType.CLOSED):
                if self._closed:
                    raise _Ended("the conversation is closed")
                raise ClientError(f"the connection to the server broke{self._said and ': '}{self._said}")
            elif message.type is aiohttp.WSMsgType.ERROR:
                raise ProtocolError(f"the server sent what cannot be read: {message.data}")
            else:
                raise ProtocolError("the server sent text, or nothing: it does not speak Kyutai's protocol")

    async def _send(self, message: bytes) -> None:
        try:
            await self._socket.send_bytes(message)
        except (ConnectionError, aiohttp.ClientError) as error:
            raise ClientError(f"the conversation has ended{self._said and ': '}{self._said}") from error


class _Ended(ClientError):
    """The conversation has ended, and nothing was wrong."""


def _address(url: str, token: str | None, audio: str, query: Mapping[str, str | int | float]) -> URL:
    """Return the address of the web socket at a server's."""
    if audio not in AUDIO_WIRES:
        raise ClientError(f"audio={audio!r} is not a way to send audio; use {' or '.join(AUDIO_WIRES)}")
    try:
        found = URL(url if "://" in url else f"ws://{url}")
        host = found.host
    except ValueError:
        found, host = URL(), None
    schemes = {"http": "ws", "ws": "ws", "https": "wss", "wss": "wss"}
    if not host or found.scheme not in schemes:
        raise ClientError(f"{url[:100]!r} is no address of a server, such as ws://localhost:8998")
    found = found.with_scheme(schemes[found.scheme])
    if found.path in ("", "/"):
        found = found.with_path(PATH, keep_query=True)
    asked = {"audio": audio, **{name: str(value) for name, value in query.items()}}
    return found.update_query({**asked, **({"token": token} if token else {})})


def _shown(url: URL) -> str:
    """Return an address without its query, which may hold a token."""
    return str(url.with_query(None))


async def _why(http: aiohttp.ClientSession, url: URL, status: int, tls: ssl.SSLContext | bool) -> str:
    """Return why a server refused the handshake, asking once more: aiohttp keeps no body of that answer."""
    plain = url.with_scheme("https" if url.scheme == "wss" else "http")
    text, known = "", {one.value: one.phrase for one in HTTPStatus}
    with suppress(aiohttp.ClientError, OSError, ValueError):
        async with http.get(plain, ssl=tls, allow_redirects=False) as answer:
            text = (await answer.text())[:_MOST_SHOWN].strip() if answer.status == status else ""
    return f"{status} {text.splitlines()[0] if text else known.get(status, '')}".strip()


def _fields(content: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(content)
    except ValueError as error:
        raise ProtocolError("the server sent metadata that is no JSON") from error
    return fields if isinstance(fields, dict) else {}
