"""One client of /api/chat, from its socket's opening to its end."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from aiohttp import WSCloseCode, WSMsgType

from moshi_mlx.conversation.trimming import ContextTrimmer
from moshi_mlx.errors import MoshiError, ProtocolError
from moshi_mlx.frames import FRAME_SECONDS
from moshi_mlx.runtime.scheduler import QueuedSlot
from moshi_mlx.web.budget import ClientBudget, OverBudget
from moshi_mlx.web.caption_feed import CaptionFeed
from moshi_mlx.web.chat_socket import ChatSocket, Gone
from moshi_mlx.web.intake import Intake
from moshi_mlx.web.limits import Limits
from moshi_mlx.web.log import event
from moshi_mlx.web.model_thread import ModelThread, Phase
from moshi_mlx.wire import messages
from moshi_mlx.wire.audio import AUDIO_WIRES
from moshi_mlx.wire.query import PROMPTS

if TYPE_CHECKING:
    import numpy as np

    from moshi_mlx.runtime.prompt import Prompt
    from moshi_mlx.runtime.session import Reply
    from moshi_mlx.web.admission import Admission, Place
    from moshi_mlx.wire.query import ChatQuery

_WORK_PACE = 5_000  # units of work a second, for a moment: a burst must not keep the interpreter from the others
_RESTART = bytes([messages.Kind.CONTROL, messages.RESTART])


class Client:
    """One conversation with one client; its slot's listener.

    name: of the session, in the log. about: what the client is told of the model when it is ready.
    place: among those who wait for one.
    readers: of audio, away from the event loop. offended: called if the client is thrown out for asking too much.
    """

    def __init__(
        self,
        query: ChatQuery,
        socket: ChatSocket,
        model: ModelThread,
        admission: Admission,
        place: Place,
        limits: Limits,
        about: dict[str, Any],
        readers: Executor,
        offended: Callable[[], object],
    ) -> None:
        self.name = secrets.token_hex(4)
        self.slot: QueuedSlot | None = None
        self.talking = False  # from the handshake on: what comes before is not for the model
        self._query, self._socket, self._model = query, socket, model
        self._admission, self._place, self._limits = admission, place, limits
        self._about, self._readers, self._offended = about, readers, offended
        self._budget = ClientBudget(limits)
        self._loop = asyncio.get_running_loop()
        self._wire = AUDIO_WIRES[query.audio]()
        self._intake = Intake()
        self._trimmer: ContextTrimmer | None = None
        self._captions = CaptionFeed(lambda fields: self._on_loop(self._caption, fields))
        self._last_heard = time.monotonic()
        self._frames = 0
        self._unsent = 0
        self._joined = asyncio.Event()
        self._ended = asyncio.Event()
        self._error: MoshiError | None = None
        self._code: int = WSCloseCode.OK

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
        return self._wire.damage()

    async def run(self) -> None:
        """Converse until the client leaves, breaks the protocol, or `end` is called."""
        parts = self._read, self._socket.deliver, self._socket.watch, self._converse, self._end
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
        await self._socket.say_goodbye(reason, self._code)
        seconds = time.monotonic() - began
        lost = self.lost()
        event("left", self.name, seconds=seconds, frames=self._frames, **lost, reason=reason if expected else None)

    def end(self, error: MoshiError | None = None, code: int = WSCloseCode.OK) -> None:
        """End the conversation; the client is told why."""
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

    # From the client.

    async def _read(self) -> None:
        async for message in self._socket:
            if message.type is WSMsgType.ERROR:
                raise Gone(str(message.data))
            self._budget.message(len(message.data or b""))
            if message.type is WSMsgType.PING:
                await self._socket.pong(message.data)
            elif message.type is WSMsgType.BINARY and message.data[:1] == bytes([messages.Kind.AUDIO]):
                await self._hear(message.data[1:])
            elif message.type is WSMsgType.BINARY and message.data[:2] == _RESTART:
                self._budget.control()
                self._restart()
            elif message.type is not WSMsgType.PONG:
                self._budget.ignored()
            await asyncio.sleep(0)  # of what waits, others' comes in between

    async def _hear(self, payload: bytes) -> None:
        """Read a message's audio in slices, each on a thread where that takes a moment."""
        slices = self._wire.slices(payload, self.talking)
        if self._query.audio == "pcm":
            for pcm in slices:
                self._take(pcm)
            return
        before = self._wire.work
        while (pcm := await self._loop.run_in_executor(self._readers, partial(next, slices, None))) is not None:
            spent, before = self._wire.work - before, self._wire.work
            self._budget.work(spent)
            self._take(pcm)
            await asyncio.sleep(spent / _WORK_PACE)

    def _take(self, pcm: np.ndarray) -> None:
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
            if self._trimmer and self._trimmer.due(frame.pcm):
                event("trimmed", self.name)
                self.slot.trim()
            self.slot.hear(frame)
            self._captions.hear(frame.pcm)

    def _restart(self) -> None:
        if self.talking and self.slot:
            event("restarted", self.name)
            self._intake.clear()
            if self._trimmer:
                self._trimmer.restart()
            self._captions.restart()
            self.slot.reset()

    # The conversation.

    async def _converse(self) -> None:
        for note in self._query.notes:
            self._note(note)
        self._loading()
        await self._model.ready(self._loading)
        await self._place.wait(self._queued)
        try:
            await self._hold()
        finally:
            self._place.leave()

    async def _hold(self) -> None:
        """Converse, in the place."""
        sampling, prompt = self._query.sampling(self._model.sampling), await self._prompt()
        self.slot = self._model.scheduler.join(self, self._query.seed, sampling, self._query.conditions, prompt)
        try:
            await self._joined.wait()
            await asyncio.to_thread(self.slot.prepare)
            session = self.slot.talking
            if self._limits.trim:
                self._trimmer = ContextTrimmer(session, self._limits.trim, automatic=True)
            self._socket.begin()
            prompts, captions = self._model.prompts, self._model.captions
            if captions and self._query.captions:
                self._captions.begin(captions)
            about = self._about | (prompts.about if prompts else {})
            about |= {"captions": captions.name} if captions else {}
            self._tell(type="state", state="ready", seed=session.seed, **about)
            if self._query.prompts and not prompts:
                self._refuse(f"this model takes no {' and no '.join(self._query.prompts)}")
            event("talking", self.name, seed=session.seed)
            self._intake.clear()
            self._last_heard = time.monotonic()
            self.talking = True
            await self._report(self.slot)
        finally:
            self.talking = False
            self._captions.end()
            self.slot.leave()

    async def _prompt(self) -> Prompt | None:
        """Return what comes before the conversation. Raises ProtocolError for what the model has not."""
        if not self._model.prompts:
            return None
        asked = [self._query.prompts.get(name, "") for name in PROMPTS]
        try:
            return await asyncio.to_thread(self._model.prompts.prompt, *asked)
        except MoshiError as error:
            raise ProtocolError(str(error)) from error

    def _refuse(self, note: str) -> None:
        """Say what the conversation goes on without."""
        self._note(note)
        if self._query.audio != "pcm":
            self._socket.post(messages.error(note))

    async def _report(self, slot: QueuedSlot) -> None:
        """Send statistics, for ever; and end the conversation if the client only holds the place."""
        while True:
            await asyncio.sleep(self._limits.stats)
            self._tell(
                type="stats",
                step_ms=round(1000 * self._model.stats.generate.percentile(50), 1),
                lag_ms=round(1000 * (slot.lag + FRAME_SECONDS)),
                **self.lost(),
                sessions=self._admission.taken,
                waiting=self._admission.waiting,
            )
            if self._admission.waiting and time.monotonic() - self._last_heard > self._limits.idle:
                raise ProtocolError(f"no audio came for {self._limits.idle:g} s while others wait for the place")

    def _loading(self) -> None:
        if self._model.phase is Phase.LOADING:
            self._tell(type="state", state="loading", progress=self._model.progress)
        elif self._model.phase is Phase.MISSING:
            self._tell(type="state", state="missing", problem=self._model.problem)

    def _queued(self, position: int) -> None:
        event("queued", self.name, position=position)
        self._tell(type="state", state="queued", position=position)

    def _note(self, note: str) -> None:
        event("note", self.name, note=note)
        self._tell(type="note", note=note)

    def _tell(self, **fields: Any) -> None:
        if self._query.audio == "pcm":  # our own page; Kyutai's clients know no metadata
            self._socket.post(messages.metadata(**fields))

    def _caption(self, fields: dict[str, Any]) -> None:
        if self.talking:
            self._socket.post(messages.metadata(**fields))  # to whoever asked for it, whatever their audio

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
        """Tell the page that a new conversation begins."""
        self._on_loop(lambda: self._tell(type="reset"))

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
        if reply.text:
            self._socket.post(messages.text(reply.text))
        if reply.audio is not None:
            waiting = sum(message[0] == messages.Kind.AUDIO for message in self._socket.outbox)
            payload = self._wire.write(reply.audio)
            if waiting >= self._limits.unsent:
                self._unsent += 1
            elif payload:
                self._socket.post(messages.audio(payload))
        if self._query.steps and self._frames >= self._query.steps:
            self.end()
