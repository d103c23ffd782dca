"""One client that talks with the model, from its socket's opening to its end; what it says is the protocol's."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from aiohttp import WSMessage, WSMsgType, web

from moshi_mlx.conversation.trimming import ContextTrimmer
from moshi_mlx.errors import MoshiError, ProtocolError
from moshi_mlx.frames import FRAME_SECONDS
from moshi_mlx.runtime.scheduler import QueuedSlot
from moshi_mlx.runtime.session import Session
from moshi_mlx.web.budget import ClientBudget, OverBudget
from moshi_mlx.web.caption_feed import CaptionFeed
from moshi_mlx.web.client_socket import ClientSocket, Gone
from moshi_mlx.web.intake import Intake
from moshi_mlx.web.log import event
from moshi_mlx.web.seat import Asked, Seat, TalkSlot
from moshi_mlx.wire.query import PROMPTS

if TYPE_CHECKING:
    import numpy as np

    from moshi_mlx.runtime.prompt import Prompt
    from moshi_mlx.runtime.reply import Reply


class Client:
    """One conversation with one client; its slot's listener. name: of the session, in the log."""

    def __init__(self, asked: Asked, socket: ClientSocket, seat: Seat) -> None:
        self.name = secrets.token_hex(4)
        self.slot: TalkSlot | None = None
        self.talking = False  # from the handshake on: what comes before is not for the model
        self._asked, self.socket, self._model = asked, socket, seat.model
        self._admission, self._place, self._limits = seat.admission, seat.place, seat.limits
        self._offended, self._beside = seat.offended, seat.beside
        self._budget = ClientBudget(seat.limits)
        self._loop = asyncio.get_running_loop()
        self._intake = Intake()
        self._trimmer: ContextTrimmer | None = None
        self._captions = CaptionFeed(lambda found: self._on_loop(self._captioned, found))
        self._last_heard = time.monotonic()
        self._frames = 0
        self._unsent = 0
        self._joined = asyncio.Event()
        self._ended = asyncio.Event()
        self._error: MoshiError | None = None
        self._code: int | None = None

    @property
    def waits(self) -> bool:
        """Whether it has no place yet."""
        return self._place.waits

    def lost(self) -> dict[str, int]:
        """Return how many frames of this conversation were lost, by reason.

        dropped: the model never heard them. silences: they came too late, so the model heard silence.
        unsent: the client was too slow for the replies. uncaptioned: there was no time to write their words down.
        """
        dropped, silences = (self.slot.heard.dropped, self.slot.silences) if self.slot else (0, 0)
        dropped += int(self._intake.flood / FRAME_SECONDS)
        uncaptioned = self._captions.dropped
        return {"dropped": dropped, "silences": silences, "unsent": self._unsent, "uncaptioned": uncaptioned}

    def damage(self) -> dict[str, int]:
        """Return how much of the client's audio was damaged, as `AudioWire.damage`."""
        return {}

    async def open(self, request: web.Request) -> None:
        """Answer the request that opens the socket."""
        await self.socket.prepare(request)

    async def run(self) -> None:
        """Converse until the client leaves, breaks the protocol, or `end` is called."""
        parts = self._read, self.socket.deliver, self.socket.watch, self._converse, self._follow, self._end
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
        expected = isinstance(reason, MoshiError | Gone)
        if isinstance(reason, OverBudget):
            self._offended()
        if reason and not expected:
            event("failed", self.name, error=repr(reason))
        await self.socket.say_goodbye(reason, self._code)
        seconds = time.monotonic() - began
        lost = self.lost()
        event("left", self.name, seconds=seconds, frames=self._frames, **lost, reason=reason if expected else None)

    def end(self, error: MoshiError | None = None, code: int | None = None) -> None:
        """End the conversation; the client is told why. code: as of `ClientSocket.say_goodbye`."""
        if not self._ended.is_set():
            self._error, self._code = error, code
            self._ended.set()

    def flooded(self) -> None:
        """End the conversation: the connection brings far more than messages may have."""
        most = self._limits.stream.a_second
        self.end(OverBudget(f"more than {most:g} bytes a second came: send audio as fast as it is spoken"))

    async def _end(self) -> None:
        await self._ended.wait()
        if self._error:
            raise self._error

    # What protocols differ in.

    async def _receive(self, message: WSMessage) -> None:
        """Do what a message asks for."""
        raise NotImplementedError

    def _loading(self) -> None:
        """Tell that the model is not there yet."""

    def _queued(self, position: int) -> None:
        """Tell the place in the line."""
        event("queued", self.name, position=position)

    def _greet(self, seed: int) -> None:
        """Tell that the conversation begins."""
        raise NotImplementedError

    def _note(self, note: str) -> None:
        """Tell what is not done as asked."""
        event("note", self.name, note=note)

    def _answer(self, reply: Reply) -> None:
        """Send a reply."""
        raise NotImplementedError

    def _restarted(self) -> None:
        """Tell that a new conversation begins."""

    def _captioned(self, found: Any) -> None:
        """Take what the user said, as of `CaptionFeed`."""

    def _report(self, slot: TalkSlot) -> None:
        """Send statistics."""

    def _settled(self, reply: Reply) -> None:
        """Take a reply to the silence that a model beside hears first."""

    # From the client.

    async def _read(self) -> None:
        async for message in self.socket:
            if message.type is WSMsgType.ERROR:
                raise Gone(str(message.data))
            self._budget.message(len(message.data or b""))
            if message.type is WSMsgType.PING:
                await self.socket.pong(message.data)
            elif message.type is not WSMsgType.PONG:
                await self._receive(message)
            await asyncio.sleep(0)  # of what waits, others' comes in between

    def _take(self, pcm: np.ndarray) -> None:
        """Let the model hear audio, (n,) float32 at 24 kHz."""
        if not len(pcm):
            return
        self._last_heard = time.monotonic()
        if not (self.talking and self.slot):
            return
        before = self._intake.flood
        frames = list(self._intake.add(pcm, time.perf_counter()))
        if self._intake.flood and not before:
            self._note("audio came more than two seconds ahead of time; what is too far ahead is not heard")
        for frame in frames:
            if self._trimmer and self._trimmer.due(frame.pcm) and isinstance(self.slot, QueuedSlot):
                event("trimmed", self.name)
                self.slot.trim()
            self.slot.hear(frame)
            self._hear(frame.pcm)

    def _hear(self, frame: np.ndarray) -> None:
        """Take a frame that went to the model, (1920,) float32."""
        self._captions.hear(frame)

    def _restart(self) -> None:
        if self.talking and isinstance(self.slot, QueuedSlot):
            event("restarted", self.name)
            self._intake.clear()
            if self._trimmer:
                self._trimmer.restart()
            self._captions.restart()
            self.slot.reset()

    # The conversation.

    async def _converse(self) -> None:
        if not self._beside:
            self._loading()
            await self._model.ready(self._loading)
            if not self._model.talks:
                raise ProtocolError("this server's model does not talk; it has /v1/ for requests")
        await self._place.wait(self._queued)
        try:
            await self._hold()
        finally:
            self._place.leave()

    async def _hold(self) -> None:
        """Converse, in the place."""
        try:
            session_seed = await self._join(await self._prompt(self._asked.prompts))
            self._greet(session_seed)
            event("talking", self.name, seed=session_seed)
            self._intake.clear()
            self._last_heard = time.monotonic()
            self.talking = True
            await self._stay()
        finally:
            self.talking = False
            self._captions.end()
            if self.slot:
                self.slot.leave()

    async def _join(self, prompt: Prompt | None) -> int:
        """Take a row of the model, and return the seed of the conversation."""
        if self._beside:
            self.slot = self._beside.slot
            await self._joined.wait()
            return self.slot.talking.seed
        sampling = self._asked.sampling(self._model.sampling)
        self._joined.clear()
        slot = self._model.scheduler.join(self, self._asked.seed, sampling, self._asked.conditions, prompt)
        self.slot = slot
        await self._joined.wait()
        await asyncio.to_thread(slot.prepare)
        session = slot.talking
        if self._limits.trim:
            self._trimmer = ContextTrimmer(session, self._limits.trim, automatic=True)
        return session.seed

    async def _prompt(self, asked: Mapping[str, str]) -> Prompt | None:
        """Return what comes before the conversation. Raises ProtocolError for what the model has not."""
        if self._beside or not self._model.prompts:
            return None
        values = [asked.get(name, "") for name in PROMPTS]
        try:
            return await asyncio.to_thread(self._model.prompts.prompt, *values)
        except MoshiError as error:
            raise ProtocolError(str(error)) from error

    async def _stay(self) -> None:
        """Send statistics, for ever; and end the conversation if the client only holds the place."""
        while True:
            await asyncio.sleep(self._limits.stats)
            if self.slot:
                self._report(self.slot)
            if self._admission.waiting and time.monotonic() - self._last_heard > self._limits.idle:
                raise ProtocolError(f"no audio came for {self._limits.idle:g} s while others wait for the place")

    async def _follow(self) -> None:
        """Take what a model beside says; raises what ends it."""
        if not self._beside:
            await asyncio.Event().wait()  # the scheduler's thread calls `write`
            return
        async for found in self._beside.job:
            if isinstance(found, Session):
                self._joined.set()
            elif self._joined.is_set():
                self._send(found)
            else:
                self._settled(found)

    # As a listener, on the threads of the loop.

    def joined(self) -> None:
        """The handshake can follow."""
        self._on_loop(self._joined.set)

    def align(self) -> None:
        """Let the next frame begin with the next audio that comes."""
        self._on_loop(self._intake.clear)

    def write(self, reply: Reply) -> None:
        """Send a reply."""
        self._on_loop(self._send, reply)

    def began_anew(self) -> None:
        """Tell the client that a new conversation begins."""
        self._on_loop(self._restarted)

    def failed(self, error: MoshiError) -> None:
        """End with this error."""
        self._on_loop(self.end, error)

    def _on_loop(self, function: Callable[..., None], *arguments: object) -> None:
        with suppress(RuntimeError):  # the loop is closed: the server has ended
            self._loop.call_soon_threadsafe(function, *arguments)

    def _send(self, reply: Reply) -> None:
        if not self.talking:
            return
        self._frames += 1
        if self._trimmer:
            self._trimmer.write(reply)
        self._answer(reply)
