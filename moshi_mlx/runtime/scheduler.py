"""Several conversations through one model: their frames, taken together, are one tick of `engine.run`.

Each member has a queue of its own; a tick takes one frame from every queue, and the batch is stepped once for all.
What else happens to a member (joining, resetting, leaving) travels through the stages between the ticks. Not here:
where frames come from and where replies go (see `web`).
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, TypeVar

import numpy as np

from moshi_mlx.errors import MoshiError
from moshi_mlx.frames import FRAME_SECONDS, silence
from moshi_mlx.runtime.engine import run
from moshi_mlx.runtime.flow import FrameQueue, HeardFrame, PacedGovernor
from moshi_mlx.runtime.queues import QueueClosed
from moshi_mlx.runtime.session import Batch, Generated, Reply, Session
from moshi_mlx.runtime.stats import Stats
from moshi_mlx.sampling_config import SamplingConfig, new_seed

PATIENCE = 0.5 * FRAME_SECONDS  # seconds that a tick waits for those whose frame is not there yet

T = TypeVar("T")


class Guest(Protocol):
    """Whom a member talks with. All methods are called on the threads of the loop, so they must be quick."""

    def joined(self) -> None:
        """The member has its place."""
        ...

    def align(self) -> None:
        """A frame of this guest would be taken at once if it ended now, or whole frames later."""
        ...

    def write(self, reply: Reply) -> None:
        """One reply, in order."""
        ...

    def began_anew(self) -> None:
        """The replies from here on belong to a new conversation."""
        ...

    def failed(self, error: MoshiError) -> None:
        """Nothing more will come; the member is still to be told to leave."""
        ...


class Member:
    """One conversation in a company. `hear`, `reset` and `leave` may be called from any thread."""

    def __init__(self, company: Company, guest: Guest, seed: int | None, sampling: SamplingConfig) -> None:
        self.guest = guest
        self.sampling = sampling
        self.seed = seed  # None: each conversation has another one
        self.session: Session | None = None  # from `Guest.joined` on
        self.heard = FrameQueue(PacedGovernor(), company.clock, company.changed)
        self.silences = 0  # ticks at which its frame was missing
        self.lag = 0.0  # seconds from the end of the last answered frame to its reply
        self.begun = False  # the rest belongs to the company
        self.late = False
        self.broken = False
        self.resetting = False
        self._company = company

    def prepare(self) -> None:
        """Wait until the codec is ready for a member that has joined; may take a second, on any thread."""
        session = self.session
        assert session
        if session.batch.moshi.codec.threaded:  # the first call of each direction waits for its process
            session.reset_encoder()
            session.reset_decoder()

    def hear(self, frame: HeardFrame) -> None:
        """One frame for the model; too many are dropped and counted."""
        with suppress(QueueClosed):  # it has left
            self.heard.put(frame)

    def reset(self) -> None:
        """Forget the conversation and begin a new one."""
        self._company.reset(self)

    def leave(self) -> None:
        """End the conversation and free its place."""
        self._company.leave(self)


@dataclass(frozen=True)
class Tick:
    """One frame for every member that has begun: what each hears, its codes, what was generated, by stage.

    answered: the members whose frame is one of their own and not filled in.
    """

    items: dict[Member, Any]
    answered: frozenset[Member]


@dataclass(frozen=True)
class Join:
    member: Member


@dataclass(frozen=True)
class Reset:
    member: Member


@dataclass(frozen=True)
class Leave:
    member: Member


Item = Tick | Join | Reset | Leave


class Company:
    """Members that share a batch: the stream of their ticks, and what is done with one.

    clock: seconds. `run` is called on the thread that owns MLX; all else may be called from any.
    """

    def __init__(self, batch: Batch, stats: Stats | None = None, clock: Callable[[], float] = time.perf_counter):
        self.stats = stats or Stats()
        self.clock = clock
        self.changed = threading.Condition()
        self.members: list[Member] = []  # in the order of their joining
        self._batch = batch
        self._waiting: deque[Join | Reset | Leave] = deque()  # at most one Join, Reset and Leave a member
        self._closed = False
        self._next = -np.inf  # the next tick comes no earlier
        self._last = -np.inf
        self._pool = ThreadPoolExecutor(thread_name_prefix="moshi-codec") if self._threaded else None

    @property
    def _threaded(self) -> bool:
        return self._batch.moshi.codec.threaded

    def run(self) -> Stats:
        """Serve until `close`; errors that are nobody's in particular are raised."""
        try:
            return run(self, self, self._batch, self.stats)
        finally:
            for member in self.members:
                self._close_session(member)
            if self._pool:
                self._pool.shutdown()

    def close(self) -> None:
        """End all conversations after the tick at hand."""
        with self.changed:
            self._closed = True
            self.changed.notify_all()

    def join(self, guest: Guest, seed: int | None, sampling: SamplingConfig) -> Member:
        """Start a conversation; `guest.joined` is called when it has its place in the batch."""
        member = Member(self, guest, seed, sampling)
        self._ask(Join(member))
        return member

    def reset(self, member: Member) -> None:
        """See `Member.reset`."""
        with self.changed:
            if member.resetting:
                return
            member.resetting = True
            member.heard.clear()
        self._ask(Reset(member))

    def leave(self, member: Member) -> None:
        """See `Member.leave`."""
        self._ask(Leave(member))

    def _ask(self, item: Join | Reset | Leave) -> None:
        with self.changed:
            self._waiting.append(item)
            self.changed.notify_all()

    # The stream.

    def __iter__(self) -> Iterator[Item]:
        while True:
            item = None
            with self.changed:
                while not self._closed and (item := self.next_item()) is None:
                    due = self.due()
                    self.changed.wait(None if due is None else max(0.0, due - self.clock()))
            if item is None:
                return
            yield item

    def next_item(self) -> Item | None:
        """What is to be done now; None if nothing is, at the latest until `due`."""
        with self.changed:
            if self._waiting:
                return self._arrange(self._waiting.popleft())
            due = self.due()
            return None if due is None or due > self.clock() else self._tick()

    def due(self) -> float | None:
        """When the next tick comes if nothing else happens, None for never."""
        came = [since for member in self.members if (since := member.heard.next_captured) is not None]
        if not came:
            return None
        awaited = any(m.begun and not m.late and m.heard.next_captured is None for m in self.members)
        if not awaited:
            return self._next
        # From the time at which everyone's next frame should be there: people speak by clocks of their own.
        return max(self._next, max(min(came), self._last + FRAME_SECONDS) + PATIENCE)

    def _arrange(self, item: Join | Reset | Leave) -> Item:
        member = item.member
        if isinstance(item, Join):
            self.members.append(member)
        elif isinstance(item, Leave):
            if member in self.members:
                self.members.remove(member)
            member.heard.abandon()
        else:
            member.begun = member.late = member.resetting = False
        return item

    def _tick(self) -> Tick:
        now = self.clock()
        items: dict[Member, np.ndarray] = {}
        answered = []
        for member in self.members:
            frame = member.heard.take_now()
            if frame is not None:
                if not member.begun and items:
                    member.guest.align()  # the first frame is not heard, so none is lost
                items[member] = frame.pcm
                answered.append(member)
                member.begun = True
            elif member.begun:
                items[member] = silence()
                member.silences += 1
            member.late = frame is None
        self._last = now
        self._next = max(self._next, now - FRAME_SECONDS) + FRAME_SECONDS
        return Tick(items, frozenset(answered))

    # The stages.

    def encode(self, item: Item) -> Item:
        """On the thread of the encoder: frames to codes."""
        if isinstance(item, Reset):
            self._guarded(item.member, lambda: _session(item.member).reset_encoder())
        if not isinstance(item, Tick):
            return item
        with self.stats.encode.measure():
            return self._each(self._encode, item)

    def generate(self, item: Item) -> Item:
        """On the thread that owns MLX: one step for all."""
        if isinstance(item, Tick):
            with self.stats.generate.measure():
                made = self._batch.generate({_session(member): codes for member, codes in item.items.items()})
            return replace(item, items={member: made[_session(member)] for member in item.items})
        member = item.member
        if isinstance(item, Join):
            self._guarded(member, partial(self._join, member))
        elif isinstance(item, Leave):
            if member.session:
                self._batch.leave(member.session)
        elif member.session:
            if member.seed is None:
                member.session.seed = new_seed()
            member.session.reset_generation()
        return item

    def decode(self, item: Item) -> None:
        """On the thread of the decoder: codes to replies, to their guests."""
        if isinstance(item, Tick):
            with self.stats.decode.measure():
                replies = self._each(self._decode, item)
            with self.changed:  # all at once: who seems to be without a frame would be given silence
                for member in item.answered:
                    member.lag = member.heard.answered()
            for member, reply in replies.items.items():
                if reply is not None:
                    member.guest.write(reply)
        elif isinstance(item, Reset):
            self._guarded(item.member, lambda: _session(item.member).reset_decoder())
            item.member.guest.began_anew()
        elif isinstance(item, Leave):
            self._close_session(item.member)

    def _join(self, member: Member) -> None:
        member.session = self._batch.join(member.seed, member.sampling)
        member.guest.joined()

    def _encode(self, member: Member, frame: np.ndarray) -> np.ndarray:
        codes = self._guarded(member, partial(_session(member).encode, frame))
        # A row of the batch cannot pause; of a broken one nobody hears what it says.
        return np.zeros(self._batch.moshi.lm.config.input_codebooks, np.int32) if codes is None else codes

    def _decode(self, member: Member, generated: Generated) -> Reply | None:
        return self._guarded(member, partial(_session(member).decode, generated))

    def _each(self, function: Callable[[Member, Any], Any], tick: Tick) -> Tick:
        """A stage of the codec for every member, at the same time where it is outside MLX."""
        members, inputs = tick.items.keys(), tick.items.values()
        mapping: Callable[..., Iterable[Any]] = self._pool.map if self._pool and len(members) > 1 else map
        return replace(tick, items=dict(zip(members, mapping(function, members, inputs), strict=True)))

    def _guarded(self, member: Member, function: Callable[[], T]) -> T | None:
        """What concerns one member must not end the others: its first error breaks it."""
        if member.broken:
            return None
        try:
            return function()
        except MoshiError as error:
            member.broken = True
            member.guest.failed(error)
            return None

    def _close_session(self, member: Member) -> None:
        session = member.session
        if session is None:
            return
        if self._pool:
            self._pool.submit(session.close)  # a process of the codec takes a moment to end
        else:
            session.close()


def _session(member: Member) -> Session:
    assert member.session, "a frame of a member that has not joined"
    return member.session
