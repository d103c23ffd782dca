"""What badly behaved clients do to a server of ours, two at a time: harmless data, a few times over its limits.

    python benchmarks/attacks.py NAME PORT SECONDS

Who is thrown out comes again. See `storm.py`.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import aiohttp

from moshi_mlx.frames import FRAME_SECONDS
from moshi_mlx.wire.ogg import HEADER, MAGIC, make_page

SILENCE = b"\1" + bytes(4 * 1920)
HEADERS_PAGE = b"\1" + make_page(b"OpusHead", 0)
BEGINNINGS = b"\1" + (HEADER.pack(MAGIC, 0, 0, 0, 1, 1, 0, 255) * 2400)[:65_000]  # of pages that never were
TINY_PAGES = b"\1" + b"".join(make_page(b"", sequence) for sequence in range(2300))[:65_000]
OF_ONE = 300  # connections that one attacker keeps open
UPGRADE = (
    b"GET /api/chat?audio=pcm HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)

Socket = aiohttp.ClientWebSocketResponse[bool]
Attack = Callable[[int, int], Coroutine[Any, Any, None]]


def main() -> None:
    name, port, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    asyncio.run(attack(name, port, seconds))


async def attack(name: str, port: int, seconds: float) -> None:
    """Let two clients do it for so long."""
    end = time.monotonic() + seconds
    one = talking("audio=pcm", _behave) if name == BEHAVING else ATTACKS[name]

    async def again(number: int) -> None:
        while time.monotonic() < end:
            with suppress(OSError, RuntimeError, aiohttp.ClientError, EOFError, asyncio.IncompleteReadError):
                await one(port, number)
            await asyncio.sleep(0.02)

    tasks = [asyncio.create_task(again(number)) for number in range(2)]
    await asyncio.wait(tasks, timeout=seconds)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def talking(query: str, behave: Callable[[Socket], Coroutine[Any, Any, None]]) -> Attack:
    """An attack of clients that have a place, and read what they get."""

    async def one(port: int, number: int) -> None:
        url = f"http://localhost:{port}/api/chat?{query}"
        async with aiohttp.ClientSession() as session, session.ws_connect(url, autoping=False) as socket:
            while (message := await socket.receive()).data != b"\0":
                if message.type is not aiohttp.WSMsgType.BINARY:
                    return

            async def read() -> None:
                async for _ in socket:
                    pass

            tasks = [asyncio.create_task(read()), asyncio.create_task(behave(socket))]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    return one


def flood(query: str, *messages: bytes, a_second: float) -> Attack:
    """An attack of clients that send these, in small bursts."""

    async def behave(socket: Socket) -> None:
        if not query:
            await socket.send_bytes(HEADERS_PAGE)
        began, sent = time.monotonic(), 0
        while True:
            for message in messages:
                await socket.send_bytes(message)
                sent += 1
            await asyncio.sleep(max(0.0, began + sent / a_second - time.monotonic()) if sent % 10 == 0 else 0)

    return talking(query, behave)


async def stall(port: int, number: int) -> None:
    """Send a frame at every other reply, the two of them in turn: nobody is ever ready."""
    url = f"http://localhost:{port}/api/chat?audio=pcm"
    async with aiohttp.ClientSession() as session, session.ws_connect(url) as socket:
        heard = number
        async for message in socket:
            if message.data[:1] == b"\0":
                for _ in range(3):
                    await socket.send_bytes(SILENCE)
                    await asyncio.sleep(FRAME_SECONDS)
            elif message.data[:1] == b"\1":
                heard += 1
                if heard % 2:
                    await socket.send_bytes(SILENCE)


async def _ping(socket: Socket) -> None:
    while True:
        for _ in range(100):
            await socket.ping(bytes(100))
        await asyncio.sleep(0.02)


async def _leave(socket: Socket) -> None:
    """Come, and go at once."""


async def connect(port: int, number: int) -> None:
    """Connect as fast as may be: nothing, half a request, or half a handshake of TLS."""
    writers = []
    try:
        while True:
            for sent in (b"", b"GET / HTTP/1.1\r\nHost: loc", b"\x16\x03\x01\x02\x00\x01"):
                with suppress(OSError):
                    _, writer = await asyncio.open_connection("localhost", port)
                    writer.write(sent)
                    writers.append(writer)
            while len(writers) > OF_ONE:
                writers.pop(0).close()
    finally:
        for writer in writers:
            writer.close()


def asking(request: bytes) -> Attack:
    """An attack of requests, many in a row on a connection."""

    async def one(port: int, number: int) -> None:
        reader, writer = await asyncio.open_connection("localhost", port)
        try:
            writer.write(request * 20)
            while await reader.read(65_536):
                writer.write(request)
        finally:
            writer.close()

    return one


async def continue_for_ever(port: int, number: int) -> None:
    """Send parts of a message that never ends, each of no bytes."""
    _, writer = await asyncio.open_connection("localhost", port)
    try:
        writer.write(UPGRADE + b"\x02\x80\0\0\0\0")
        while not writer.is_closing():
            writer.write(b"\x00\x80\0\0\0\0" * 1000)
            await writer.drain()
            await asyncio.sleep(0.005)
    finally:
        writer.close()


async def _behave(socket: Socket) -> None:
    began, sent = time.monotonic(), 0
    while True:
        await socket.send_bytes(SILENCE)
        sent += 1
        await asyncio.sleep(max(0.0, began + sent * FRAME_SECONDS - time.monotonic()))


BEHAVING = "behaving"
ATTACKS: dict[str, Attack] = {
    "stalling in turn": stall,
    "beginnings of pages": flood("", BEGINNINGS, a_second=300),
    "tiny pages": flood("", TINY_PAGES, a_second=300),
    "new conversations": flood("audio=pcm", b"\3\3", a_second=3000),
    "kinds of no use": flood("audio=pcm", b"\x63" + bytes(200), b"\1", b"", a_second=5000),
    "audio without end": flood("audio=pcm", b"\1" + bytes(60_000), a_second=500),
    "pings": talking("audio=pcm", _ping),
    "parts of no message": continue_for_ever,
    "coming and going": talking("audio=pcm", _leave),
    "connections": connect,
    "requests": asking(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    "refused requests": asking(b"GET /api/info HTTP/1.1\r\nHost: localhost\r\nOrigin: http://[\r\n\r\n"),
}


if __name__ == "__main__":
    main()
