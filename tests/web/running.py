"""A real server on a thread of its own, and clients that talk with it as a page or Kyutai's clients do."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import aiohttp
import numpy as np

from moshi_mlx.runtime.moshi import Moshi
from moshi_mlx.web.serving.server import Server

T = TypeVar("T")
PATIENCE = 60.0  # seconds for what takes a moment: the machine may be busy
CLOSING = 0.01  # seconds in which sockets learn that the other side has gone; else the collector finds them open
AHEAD = 3  # frames that are sent before their answers: two that have none at a beginning, and the next


class Running:
    """A server that listens on a free port of this machine until `stop`, or the end of a `with`."""

    def __init__(self, moshi: Moshi | Callable[..., Moshi], **options: Any) -> None:
        load = moshi if callable(moshi) and not isinstance(moshi, Moshi) else lambda progress: moshi
        about = options.pop("about", {"model": "tiny", "greeting": "", "questions": []})
        self.tls = options.pop("tls", None)
        self._ready = threading.Event()
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._run, args=(load, about, options))
        self.thread.start()
        assert self._ready.wait(PATIENCE)

    def _run(self, load: Callable[..., Moshi], about: dict[str, Any], options: dict[str, Any]) -> None:
        asyncio.set_event_loop(self.loop)
        self.server = Server(load, about, **options)
        self.port = self.loop.run_until_complete(self.server.start("localhost", 0, self.tls))
        self._ready.set()
        self.loop.run_forever()
        self.loop.run_until_complete(asyncio.sleep(CLOSING))
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://localhost:{self.port}"

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something on the server's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(PATIENCE)

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def stop(self) -> float:
        """Stop; how long the server took, in seconds."""
        began = time.monotonic()
        self.call(self.server.stop())
        self.server.model.join(PATIENCE)
        took = time.monotonic() - began
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()
        return took


class Talk:
    """A client's side of one conversation, everything that it was told in order."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse[bool]) -> None:
        self.socket = socket
        self.messages: list[tuple[int, bytes]] = []
        self.times: list[float] = []
        self._changed = asyncio.Condition()
        self.closed = False
        self._task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for message in self.socket:
            assert isinstance(message.data, bytes), message
            self.messages.append((message.data[0], message.data[1:]))
            self.times.append(time.monotonic())
            async with self._changed:
                self._changed.notify_all()
        self.closed = True
        async with self._changed:
            self._changed.notify_all()

    async def until(self, wanted: Callable[[], object], seconds: float = PATIENCE) -> None:
        """Wait until what was told is as wanted."""
        async with self._changed:
            try:
                await asyncio.wait_for(self._changed.wait_for(lambda: wanted()), seconds)
            except asyncio.TimeoutError as error:
                kinds = [kind for kind, _ in self.messages]
                raise AssertionError(f"not within {seconds} s: {kinds}, {self.metadata}, {self.errors}") from error

    async def begun(self) -> None:
        """Wait for the handshake."""
        await self.until(lambda: (0, b"") in self.messages)

    async def end(self) -> None:
        """Wait until the server has closed."""
        await self.until(lambda: self.closed)

    async def say(self, pcm: np.ndarray, block: int = 480, pace: float = 1.0) -> None:
        """Send samples as raw audio, as fast as they are spoken."""
        start = time.monotonic()
        for index in range(0, len(pcm), block):
            await asyncio.sleep(max(0.0, start + index / 24_000 * pace - time.monotonic()))
            await self.socket.send_bytes(b"\1" + pcm[index : index + block].astype("<f4").tobytes())

    async def converse(self, pcm: np.ndarray, until: Callable[[], object] = lambda: True) -> None:
        """Say samples, then silence until what was told is as wanted; a busy machine loses none of it.

        A frame is sent when those before are answered: the server drops nothing, and hears no silence in between.
        """
        silence = np.zeros(1920, np.float32)
        frames = [*pcm[: len(pcm) // 1920 * 1920].reshape(-1, 1920)]
        answered = len(self.audio)
        for sent in range(len(frames) + int(PATIENCE * 12.5)):
            if sent >= len(frames) and until():
                return
            await self.socket.send_bytes(b"\1" + (frames[sent] if sent < len(frames) else silence).tobytes())
            await self.until(lambda sent=sent: len(self.audio) - answered > sent - AHEAD)
        raise AssertionError(f"not within {PATIENCE} s of silence: {self.text!r}, {self.errors}")

    async def speak_until(self, wanted: Callable[[], object], pcm: np.ndarray | None = None) -> None:
        """Say this, or nothing aloud, again and again: a busy machine leaves parts of it unheard."""
        deadline = time.monotonic() + PATIENCE
        while not wanted():
            assert time.monotonic() < deadline, ([kind for kind, _ in self.messages], self.metadata, self.errors)
            await self.say(np.zeros(1920 * 4, np.float32) if pcm is None else pcm)

    def of_kind(self, kind: int) -> list[bytes]:
        return [content for found, content in self.messages if found == kind]

    @property
    def text(self) -> str:
        return b"".join(self.of_kind(2)).decode()

    @property
    def audio(self) -> list[np.ndarray]:
        return [np.frombuffer(content, "<f4") for content in self.of_kind(1)]

    @property
    def metadata(self) -> list[dict[str, Any]]:
        return [json.loads(content) for content in self.of_kind(4)]

    @property
    def errors(self) -> list[str]:
        return [content.decode() for content in self.of_kind(5)]

    def states(self) -> list[str]:
        return [str(one["state"]) for one in self.metadata if one["type"] == "state"]


@asynccontextmanager
async def talking(url: str, query: str = "audio=pcm", **how: Any) -> AsyncIterator[Talk]:
    """Connect a client."""
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{url}/api/chat?{query}", max_msg_size=0, **how) as socket,
    ):
        talk = Talk(socket)
        try:
            yield talk
        finally:
            await socket.close()
            await talk._task


def run(work: Coroutine[Any, Any, T]) -> T:
    """A test's own event loop."""

    async def settled() -> T:
        try:
            return await work
        finally:
            await asyncio.sleep(CLOSING)

    return asyncio.run(settled())


async def free(running: Running) -> None:
    """Wait until nobody talks and nobody waits."""

    async def is_free() -> bool:
        try:
            async with aiohttp.ClientSession() as session, session.get(f"{running.url}/health") as answer:
                state = await answer.json()
                return state["sessions"] == state["waiting"] == 0
        except aiohttp.ClientConnectionError:  # turned away: those who left are not all noticed yet
            return False

    deadline = time.monotonic() + PATIENCE
    while not await is_free():
        assert time.monotonic() < deadline, "a place is stuck"
        await asyncio.sleep(0.05)
