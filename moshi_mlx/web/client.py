"""One client of /api/chat, from its socket's opening to its end."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiohttp import WSCloseCode, WSMsgType, web

from moshi_mlx.conversation.trimming import ContextTrimmer
from moshi_mlx.errors import MoshiError, ProtocolError
from moshi_mlx.frames import FRAME_SECONDS
from moshi_mlx.runtime.scheduler import QueuedSlot
from moshi_mlx.web.events import event
from moshi_mlx.web.intake import Intake
from moshi_mlx.web.model import Model, Phase
from moshi_mlx.web.settings import read_query
from moshi_mlx.wire import messages as wire

if TYPE_CHECKING:
    from moshi_mlx.runtime.session import Reply
    from moshi_mlx.web.admission import Seats


@dataclass(frozen=True)
class Limits:
    """How long and how much a client may."""

    ping: float = 4.0  # seconds without a message, after which a client gets one
    heartbeat: float = 10.0  # seconds of silence after which it is asked whether it is still there
    stuck: float = 10.0  # seconds for it to take one message
    idle: float = 60.0  # seconds without audio, while others wait for its place
    goodbye: float = 0.5  # seconds for its side of the end
    stats: float = 1.0  # seconds between two messages about how it goes
    unsent: int = 25  # frames of audio that wait for a client, 2 seconds; then they are dropped
    unsent_messages: int = 250  # of any kind
    waiting: int = 64  # clients that wait for a place
    trim: float | None = None  # seconds of a conversation that outlast context trimming; None: it is never trimmed


class Gone(Exception):
    """The client is no longer there."""


class Client:
    """One conversation with one client.

    name: of the session, in the log. describe: what the client is told of the model when it is ready.
    """

    def __init__(
        self,
        request: web.Request,
        socket: web.WebSocketResponse,
        model: Model,
        seats: Seats,
        limits: Limits,
        describe: Callable[[], dict[str, Any]],
    ) -> None:
        self.name = secrets.token_hex(4)
        self.unsent = 0  # frames of audio that the client was too slow for
        self.slot: QueuedSlot | None = None
        self._trimmer: ContextTrimmer | None = None
        self._query = request.query
        self._socket, self._model, self._seats, self._limits = socket, model, seats, limits
        self._describe = describe
        self._loop = asyncio.get_running_loop()
        self._pcm = self._query.get("audio") == "pcm"
        self._wire: wire.AudioWire = make_wire(self._pcm)
        self._intake = Intake()
        self._talking = False  # what comes before the handshake is not for the model
        self._heard_last = time.monotonic()
        self._frames = 0
        self._steps: int | None = None
        self._outbox: deque[bytes] = deque()
        self._filled = asyncio.Event()
        self._sending = False
        self._sent_last = time.monotonic()
        self._joined: asyncio.Future[None] = self._loop.create_future()
        self._ended = asyncio.Event()
        self._error: MoshiError | None = None
        self._code: int = WSCloseCode.OK

    @property
    def dropped(self) -> int:
        """Frames that the model never heard."""
        return self.slot.heard.dropped if self.slot else 0

    @property
    def silences(self) -> int:
        """Frames that came too late, so that the model heard silence."""
        return self.slot.silences if self.slot else 0

    async def talk(self) -> None:
        """Until the client leaves, breaks the protocol, or `end` is called."""
        parts = self._read, self._write, self._watch, self._converse, self._end
        tasks = [asyncio.create_task(part()) for part in parts]
        reason: BaseException | None = None
        began = time.monotonic()
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            reason = next((error for task in done if (error := task.exception())), None)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if reason and not isinstance(reason, MoshiError | Gone):
            event("failed", self.name, error=repr(reason))
        await self._say_goodbye(reason)
        event(
            "left",
            self.name,
            seconds=time.monotonic() - began,
            frames=self._frames,
            dropped=self.dropped,
            silences=self.silences,
            unsent=self.unsent,
            reason=reason if isinstance(reason, MoshiError | Gone) else None,
        )

    def end(self, error: MoshiError | None = None, code: int = WSCloseCode.OK) -> None:
        """End the conversation; the client is told why."""
        if not self._ended.is_set():
            self._error, self._code = error, code
            self._ended.set()

    async def _end(self) -> None:
        await self._ended.wait()
        if self._error:
            raise self._error

    # From the client.

    async def _read(self) -> None:
        async for message in self._socket:
            if message.type is WSMsgType.ERROR:
                raise Gone(str(message.data))
            if message.type is not WSMsgType.BINARY or not message.data:
                continue
            data: bytes = message.data
            if data[0] == wire.Kind.AUDIO:
                self._hear(data[1:])
            elif data[:2] == bytes([wire.Kind.CONTROL, wire.RESTART]):
                self._restart()

    def _hear(self, payload: bytes) -> None:
        pcm = self._wire.read(payload)
        if not len(pcm):
            return
        self._heard_last = time.monotonic()
        for frame in self._intake.add(pcm, time.perf_counter()):
            if not (self._talking and self.slot):
                continue
            if self._trimmer and self._trimmer.due(frame.pcm):
                event("trimmed", self.name)
                self.slot.trim()
            self.slot.hear(frame)

    def _restart(self) -> None:
        if self._talking and self.slot:
            event("restarted", self.name)
            self._intake.clear()
            if self._trimmer:
                self._trimmer.restart()
            self.slot.reset()

    # To the client.

    async def _write(self) -> None:
        while True:
            await self._filled.wait()
            self._filled.clear()
            while self._outbox:
                self._sending = True
                self._sent_last = time.monotonic()
                try:
                    await self._socket.send_bytes(self._outbox.popleft())
                except ConnectionError as error:
                    raise Gone("lost") from error
                self._sending = False

    async def _watch(self) -> None:
        """Break a silence that lasts, and leave a client that takes nothing.

        A task of its own: until Python 3.12 `asyncio.wait_for` may swallow the cancelling of its task.
        """
        while True:
            await asyncio.sleep(self._limits.ping / 4)
            silence = time.monotonic() - self._sent_last
            if self._sending and silence > self._limits.stuck:
                raise Gone("stuck")
            if not self._sending and silence > 0.7 * self._limits.ping:
                self._send(wire.PING)

    def _send(self, message: bytes) -> None:
        if len(self._outbox) < self._limits.unsent_messages:
            self._outbox.append(message)
            self._filled.set()

    def _tell(self, **fields: Any) -> None:
        if self._pcm:
            self._send(wire.metadata(**fields))

    async def _say_goodbye(self, reason: BaseException | None) -> None:
        """Tell the client why it ends, if it still listens, and close the socket."""
        code = self._code

        async def last_words() -> None:
            while self._outbox and not self._sending:  # else a message is half sent
                await self._socket.send_bytes(self._outbox.popleft())
            if isinstance(reason, MoshiError):
                await self._socket.send_bytes(wire.error(str(reason)))
            await self._socket.close(code=code)

        if isinstance(reason, ProtocolError):
            code = WSCloseCode.POLICY_VIOLATION
        elif reason and not isinstance(reason, Gone):
            code = WSCloseCode.INTERNAL_ERROR
        with suppress(asyncio.TimeoutError, ConnectionError, RuntimeError):  # it has gone, or does not listen
            await asyncio.wait_for(last_words(), 2 * self._limits.goodbye)

    # The conversation.

    async def _converse(self) -> None:
        self._loading()
        await self._model.ready(self._loading)
        wishes = read_query(self._query, self._model.moshi.sampling)
        for note in wishes.notes:
            event("note", self.name, note=note)
        self._steps = wishes.steps
        async with self._seats.seat(self._queued):
            self.slot = self._model.scheduler.join(self, wishes.seed, wishes.sampling)
            try:
                await self._joined
                await asyncio.to_thread(self.slot.prepare)
                if self._limits.trim and self.slot.session:
                    self._trimmer = ContextTrimmer(self.slot.session, self._limits.trim, automatic=True)
                self._send(wire.HANDSHAKE)
                seed = self.slot.session.seed if self.slot.session else None
                self._tell(type="state", state="ready", seed=seed, **self._describe())
                event("talking", self.name, seed=seed)
                self._intake.clear()
                self._heard_last = time.monotonic()
                self._talking = True
                await self._report()
            finally:
                self._talking = False
                self.slot.leave()

    async def _report(self) -> None:
        """Tell how it goes, for ever; and end it if the client only holds the place."""
        while True:
            await asyncio.sleep(self._limits.stats)
            self._tell(type="stats", **self._stats())
            if self._seats.waiting and time.monotonic() - self._heard_last > self._limits.idle:
                raise ProtocolError(f"no audio for {self._limits.idle:g} s while others wait for the place")

    def _loading(self) -> None:
        if self._model.phase is Phase.LOADING:
            self._tell(type="state", state="loading", progress=self._model.progress)

    def _queued(self, position: int) -> None:
        event("queued", self.name, position=position)
        self._tell(type="state", state="queued", position=position)

    def _stats(self) -> dict[str, Any]:
        slot = self.slot
        assert slot
        return {
            "step_ms": round(1000 * self._model.stats.generate.percentile(50), 1),
            "lag_ms": round(1000 * (slot.lag + FRAME_SECONDS)),
            "dropped": self.dropped,
            "silences": self.silences,
            "unsent": self.unsent,
            "sessions": self._seats.taken,
            "waiting": self._seats.waiting,
        }

    # As a listener, on the threads of the loop.

    def joined(self) -> None:
        self._on_loop(self._has_joined)

    def align(self) -> None:
        self._on_loop(self._intake.clear)

    def write(self, reply: Reply) -> None:
        self._on_loop(self._has_reply, reply)

    def began_anew(self) -> None:
        self._on_loop(lambda: self._tell(type="reset"))

    def failed(self, error: MoshiError) -> None:
        self._on_loop(self.end, error)

    def _on_loop(self, function: Callable[..., None], *arguments: object) -> None:
        with suppress(RuntimeError):  # the loop is closed: the server has ended
            self._loop.call_soon_threadsafe(function, *arguments)

    def _has_joined(self) -> None:
        if not self._joined.done():
            self._joined.set_result(None)

    def _has_reply(self, reply: Reply) -> None:
        if not self._talking:
            return
        self._frames += 1
        if self._trimmer:
            self._trimmer.write(reply)
        if reply.text:
            self._send(wire.text(reply.text))
        if reply.audio is not None:
            waiting = sum(message[0] == wire.Kind.AUDIO for message in self._outbox)
            payload = self._wire.write(reply.audio)
            if waiting >= self._limits.unsent:
                self.unsent += 1
            elif payload:
                self._send(bytes([wire.Kind.AUDIO]) + payload)
        if self._steps and self._frames >= self._steps:
            self.end()


def make_wire(pcm: bool) -> wire.AudioWire:
    """How a client's audio is written."""
    if pcm:
        return wire.PcmWire()
    from moshi_mlx.wire.opus import OpusWire

    return OpusWire()
