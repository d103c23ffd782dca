"""A client of /api/chat: Kyutai's protocol, and what our page is told besides."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from functools import partial
from typing import TYPE_CHECKING, Any

from aiohttp import WSMessage, WSMsgType

from moshi_mlx.frames import FRAME_SECONDS
from moshi_mlx.tasks.words import Pause, Word
from moshi_mlx.web.client import Client
from moshi_mlx.web.client_socket import ClientSocket
from moshi_mlx.web.connections import Link
from moshi_mlx.web.limits import Limits
from moshi_mlx.web.model_thread import Phase
from moshi_mlx.web.seat import Seat, TalkSlot
from moshi_mlx.wire import messages
from moshi_mlx.wire.audio import AUDIO_WIRES

if TYPE_CHECKING:
    from moshi_mlx.runtime.reply import Reply
    from moshi_mlx.wire.query import ChatQuery

_WORK_PACE = 5_000  # units of work a second, for a moment: a burst must not keep the interpreter from the others
_RESTART = bytes([messages.Kind.CONTROL, messages.RESTART])


class ChatClient(Client):
    """One conversation by Kyutai's protocol.

    about: what the client is told of the model when it is ready. readers: of audio, away from the event loop.
    """

    def __init__(
        self,
        query: ChatQuery,
        seat: Seat,
        about: dict[str, Any],
        readers: Executor,
    ) -> None:
        self._chat = ChatSocket(seat.limits, seat.link)
        super().__init__(query, self._chat, seat)
        self._query = query
        self._about, self._readers = about, readers
        self._wire = AUDIO_WIRES[query.audio]()

    def damage(self) -> dict[str, int]:
        """Return how much of the client's audio was damaged, as `AudioWire.damage`."""
        return self._wire.damage()

    async def _receive(self, message: WSMessage) -> None:
        if message.type is WSMsgType.BINARY and message.data[:1] == bytes([messages.Kind.AUDIO]):
            await self._read_audio(message.data[1:])
        elif message.type is WSMsgType.BINARY and message.data[:2] == _RESTART:
            self._budget.control()
            self._restart()
        else:
            self._budget.ignored()

    async def _read_audio(self, payload: bytes) -> None:
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

    async def _converse(self) -> None:
        for note in self._query.notes:
            self._note(note)
        await super()._converse()

    def _greet(self, seed: int) -> None:
        self._chat.begin()
        prompts, captions = self._model.prompts, self._model.captions
        if captions and self._query.captions:
            self._captions.begin(captions)
        about = self._about | (prompts.about if prompts else {})
        about |= {"captions": captions.name} if captions else {}
        self._tell(type="state", state="ready", seed=seed, **about)
        if self._query.prompts and not prompts:
            self._refuse(f"this model takes no {' and no '.join(self._query.prompts)}")

    def _refuse(self, note: str) -> None:
        """Say what the conversation goes on without."""
        self._note(note)
        if self._query.audio != "pcm":
            self.socket.post(messages.error(note))

    def _report(self, slot: TalkSlot) -> None:
        self._tell(
            type="stats",
            step_ms=round(1000 * self._model.stats.generate.percentile(50), 1),
            lag_ms=round(1000 * (slot.lag + FRAME_SECONDS)),
            **self.lost(),
            sessions=self._admission.taken,
            waiting=self._admission.waiting,
        )

    def _loading(self) -> None:
        if self._model.phase is Phase.LOADING:
            again = {"again": True} if self._model.again_after_idle else {}
            self._tell(type="state", state="loading", progress=self._model.progress, **again)
        elif self._model.phase is Phase.MISSING:
            self._tell(type="state", state="missing", problem=self._model.problem)

    def _queued(self, position: int) -> None:
        super()._queued(position)
        self._tell(type="state", state="queued", position=position)

    def _note(self, note: str) -> None:
        super()._note(note)
        self._tell(type="note", note=note)

    def _restarted(self) -> None:
        self._tell(type="reset")

    def _tell(self, **fields: Any) -> None:
        if self._query.audio == "pcm":  # our own page; Kyutai's clients know no metadata
            self.socket.post(messages.metadata(**fields))

    def _captioned(self, found: Word | Pause) -> None:
        if not self.talking:
            return
        if isinstance(found, Word):
            fields = {"type": "caption", "word": found.text, "start": found.start, "end": found.end}
        else:
            fields = {"type": "pause", "pause": found.time, "p": round(found.probability, 4)}
        self.socket.post(messages.metadata(**fields))  # to whoever asked for it, whatever their audio

    def _answer(self, reply: Reply) -> None:
        if reply.text:
            self.socket.post(messages.text(reply.text))
        if reply.audio is not None:
            payload = self._wire.write(reply.audio)
            if payload and not self.socket.post_audio(messages.audio(payload)):
                self._unsent += 1
        if self._query.steps and self._frames >= self._query.steps:
            self.end()


class ChatSocket(ClientSocket):
    """The web socket of a `ChatClient`: binary messages of Kyutai's protocol."""

    def __init__(self, limits: Limits, link: Link) -> None:
        super().__init__(limits, link, messages.MAX_MESSAGE)

    def begin(self) -> None:
        """Let the handshake follow."""
        self.begun = True
        self.post(messages.HANDSHAKE)

    def farewell(self, why: str) -> bytes:
        """Return an error."""
        return messages.error(why)

    def keepalive(self) -> bytes:
        """Return a ping."""
        return messages.PING
