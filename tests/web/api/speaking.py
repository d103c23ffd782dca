"""OpenAI's own client, unmodified, with a real server of ours, frame by frame: a busy machine loses none."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
from openai import AsyncOpenAI

from moshi_mlx.web.client import Client
from tests.web.running import PATIENCE, Running

GREEDILY = {"text_temperature": "0", "audio_temperature": "0", "seed": "4"}


def pcm16(pcm: np.ndarray) -> str:
    """Audio for an event."""
    return base64.b64encode((np.clip(pcm, -1, 1) * 32767).astype("<i2").tobytes()).decode()


def heard(pcm: np.ndarray) -> np.ndarray:
    """What the server makes of `pcm16`."""
    return np.frombuffer(base64.b64decode(pcm16(pcm)), "<i2").astype(np.float32) / 32768


class Session:
    """A client's side of one session, with all events that it was sent."""

    def __init__(self, connection: Any, running: Running) -> None:
        self.connection, self._running = connection, running
        self.events: list[Any] = []
        self._task = asyncio.create_task(self._read())
        self.sent = 0

    async def _read(self) -> None:
        async for event in self.connection:
            self.events.append(event)

    async def send(self, type: str, **fields: Any) -> None:
        await self.connection.send({"type": type, **fields})

    def of(self, type: str) -> list[Any]:
        return [event for event in self.events if event.type == type]

    @property
    def types(self) -> list[str]:
        """The types of all events, deltas of a kind as one."""
        found: list[str] = []
        for event in self.events:
            if not (found and found[-1] == event.type):
                found.append(event.type)
        return found

    @property
    def errors(self) -> list[Any]:
        return [event.error for event in self.of("error")]

    async def until(self, wanted: Callable[[], object], what: str = "") -> None:
        deadline = time.monotonic() + PATIENCE
        while not wanted():
            if self._task.done() and (error := self._task.exception()):
                raise error
            assert time.monotonic() < deadline, (what, self.types, self.errors)
            await asyncio.sleep(0.005)

    async def once(self, type: str, count: int = 1) -> Any:
        """Wait for an event, and return the latest of its type."""
        await self.until(lambda: len(self.of(type)) >= count, type)
        return self.of(type)[-1]

    @property
    def client(self) -> Client:
        """The server's side."""
        (found,) = self._running.server.clients
        return found

    async def say(self, pcm: np.ndarray, event: str = "input_audio_buffer.append") -> None:
        """Say whole frames, each when those before are answered."""
        for frame in pcm.reshape(-1, 1920):
            await self.send(event, audio=pcm16(frame))
            self.sent += 1
            await self.caught_up(self.sent)

    async def silent_until(self, type: str) -> None:
        """Say nothing, frame by frame, until an event has come."""
        while not self.of(type):
            await self.say(np.zeros(1920, np.float32))

    async def caught_up(self, frames: int) -> None:
        """Wait until so many frames are answered: of two that wait a server without time may drop one."""
        await self.until(lambda: self.client._frames >= frames, "a reply")

    async def ended(self) -> None:
        await asyncio.wait_for(self._task, PATIENCE)


def openai(running: Running, key: str = "none") -> AsyncOpenAI:
    """A client with our address."""
    return AsyncOpenAI(base_url=f"{running.url}/v1", api_key=key, max_retries=0)


@asynccontextmanager
async def created(connection: Any, running: Running) -> AsyncIterator[Session]:
    """A session on a connection, once the server has created it."""
    session = Session(connection, running)
    try:
        await session.once("session.created")
        yield session
    finally:
        session._task.cancel()


@asynccontextmanager
async def realtime(running: Running, model: str = "tiny", **query: str) -> AsyncIterator[Session]:
    """A session of /v1/realtime that was created."""
    async with (
        openai(running) as api,
        api.realtime.connect(model=model, extra_query={**GREEDILY, **query}) as connection,
        created(connection, running) as session,
    ):
        yield session


@asynccontextmanager
async def translating(running: Running, model: str = "tiny", **query: str) -> AsyncIterator[Session]:
    """A session of /v1/realtime/translations that was created."""
    async with (
        openai(running) as api,
        api.realtime.translations.connect(model=model, extra_query={**GREEDILY, **query}) as connection,
        created(connection, running) as session,
    ):
        yield session
