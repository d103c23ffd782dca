"""The one loop of the package, and the one set of stages: items of a stream, through encode, generate and decode.

    stream ─► [encode] ─► codes ─► generate (this thread, owns MLX) ─► codes, text ─► [decode] ─► listeners

A `Tick` is one frame of every conversation that has one. What else happens to a conversation (joining, resetting,
trimming, leaving) is a `Change`, which travels through the stages between ticks: what came before it is finished,
what comes after it finds it done. With a codec that runs outside MLX the bracketed stages have a thread each, so
that a frame costs the slowest stage and not the sum; else they run in turn on this thread.

`converse` drives one conversation, `converse_together` several in lockstep; `scheduler` those that come and go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, nullcontext, suppress
from dataclasses import dataclass, replace
from enum import Enum
from inspect import isgenerator
from typing import Any, Protocol, TypeVar

import numpy as np

from moshi_mlx.errors import MoshiError
from moshi_mlx.models.conditioner_config import Condition
from moshi_mlx.runtime.limits import process_limits
from moshi_mlx.runtime.pipeline import Spare, SpareTime, called, mapped
from moshi_mlx.runtime.prompt import Prompt
from moshi_mlx.runtime.session import Generated, Reply, Rows, Session
from moshi_mlx.runtime.stats import Stats
from moshi_mlx.sampling_config import SamplingConfig, new_seed

T = TypeVar("T")


class Control(Enum):
    """What can happen to a conversation between its frames."""

    JOIN = "join"  # it gets its place in the batch
    RESET = "reset"  # it is forgotten, and a new one begins
    TRIM = "trim"  # the model forgets all of it but what its session remembers
    MARK_END = "mark end"  # its next frame says that what the model hears has ended, see `Session.mark_end`
    LEAVE = "leave"  # it ends


RESET, TRIM, MARK_END = Control.RESET, Control.TRIM, Control.MARK_END

QUEUE_FRAMES = 4  # between stages: enough to ride out a slow frame, little enough to stay live


class Source(Protocol):
    """Where frames come from."""

    def __iter__(self) -> Iterator[np.ndarray | Control]:
        """Yield (1920,) float32 frames at 24 kHz, RESET, TRIM or MARK_END; may wait for the next one."""
        ...

    def close(self) -> None:
        """Stop: a thread that waits for the next frame returns soon. Called once, from any thread."""
        ...


class Sink(Protocol):
    """Where replies go."""

    def write(self, reply: Reply) -> None:
        """Take one reply, in order, always from the same thread."""
        ...


class Listener(Protocol):
    """Whom a conversation talks with. All methods are called on the threads of the loop, so they must be quick."""

    def joined(self) -> None:
        """The conversation has its place."""
        ...

    def align(self) -> None:
        """A frame of this listener would be taken at once if it ended now, or whole frames later."""
        ...

    def write(self, reply: Reply) -> None:
        """Take one reply, in order."""
        ...

    def began_anew(self) -> None:
        """The replies from here on belong to a new conversation."""
        ...

    def failed(self, error: MoshiError) -> None:
        """Nothing more will come; the conversation is still to be told to leave."""
        ...


class Slot:
    """One conversation's place in the loop. Without a seed, every new conversation in it has another."""

    def __init__(
        self,
        listener: Listener,
        seed: int | None = None,
        sampling: SamplingConfig | None = None,
        conditions: Mapping[str, Condition] | None = None,
        prompt: Prompt | None = None,
    ) -> None:
        self.listener = listener
        self.seed, self.sampling, self.conditions, self.prompt = seed, sampling, conditions, prompt
        self.session: Session | None = None  # until it has joined
        self.broken = False  # it has failed, and its listener knows

    @property
    def talking(self) -> Session:
        """The session of a slot that has joined."""
        assert self.session, "a frame of a slot that has not joined"
        return self.session


@dataclass(frozen=True)
class Tick:
    """One frame of every conversation that has begun: what each hears, its codes, what was generated, by stage.

    answered: the slots whose frame is one of their own and not filled in.
    """

    items: Mapping[Slot, Any]
    answered: frozenset[Slot] = frozenset()


@dataclass(frozen=True)
class Change:
    """Something that happens to one conversation."""

    control: Control
    slot: Slot


Item = Tick | Change


class Stream(Protocol):
    """What goes through the stages: it may wait for its next item, and can be closed from any thread."""

    def __iter__(self) -> Iterator[Item]:
        """Yield items in their order, until the stream is closed or has no more."""
        ...

    def close(self) -> None:
        """End the stream after the item at hand."""
        ...


Frames = Source | Iterable[np.ndarray | Control]


def converse(
    session: Session, source: Frames, sink: Sink, stats: Stats | None = None, spare: Spare | None = None
) -> Stats:
    """Feed every frame of `source` through `session` and give every reply to `sink`.

    source: a `Source`, or anything else that gives frames and cannot be closed, such as a list or a generator.
    stats: where to count, for whoever wants to watch; returned as well. spare: as of `run`.

    Returns when the source ends. The calling thread runs the language model. An error in any stage stops all
    of them and is raised here; the source is closed in every case, the sink belongs to the caller.
    """
    stats, batch = stats or Stats(), session.batch
    return run(Stages(batch, stats), _Lockstep({session: (source, sink)}), batch, stats, spare)


def converse_together(parties: Mapping[Session, tuple[Frames, Sink]], stats: Stats | None = None) -> Stats:
    """As `converse`, for several sessions of one batch in lockstep: each tick takes a frame from every source.

    A session whose source ends before the others' leaves the batch.
    """
    stats = stats or Stats()
    batch = next(iter(parties)).batch
    return run(Stages(batch, stats), _Lockstep(parties), batch, stats)


def run(stages: Stages, stream: Stream, batch: Rows, stats: Stats, spare: Spare | None = None) -> Stats:
    """The loop: every item of `stream` through the stages, until it ends. spare: see `pipeline.SpareTime`."""
    threaded = batch.moshi.codec.threaded
    depths = stats.queue_depths
    arrivals = SpareTime(stream, spare)
    with (
        stats.timed(),
        called("decode", stages.decode, threaded, QUEUE_FRAMES, depths) as output,
        mapped("encode", stages.encode, arrivals, threaded, QUEUE_FRAMES, depths) as encoded,
        closing(stream),
        process_limits(batch.held_bytes),
    ):
        for item in encoded:
            output(stages.generate(item))
            arrivals.done()
    return stats


class Stages:
    """What is done with every item of a stream, for all slots of a batch.

    answered: told of every tick when all its replies are made, before the listeners get them.
    pool: for codecs outside MLX, which can then work for several slots at the same time.
    """

    def __init__(
        self,
        batch: Rows,
        stats: Stats,
        answered: Callable[[Tick], None] = lambda tick: None,
        pool: ThreadPoolExecutor | None = None,
    ) -> None:
        self._batch, self._stats, self._answered, self._pool = batch, stats, answered, pool

    def encode(self, item: Item) -> Item:
        """On the thread of the encoder: frames to codes."""
        if isinstance(item, Tick):
            with self._stats.encode.measure():
                return self._each(self._encode, item)
        if item.control is RESET:
            self._guarded(item.slot, lambda: item.slot.talking.reset_encoder())
        elif item.control is MARK_END:
            self._guarded(item.slot, lambda: item.slot.talking.mark_end())
        return item

    def generate(self, item: Item) -> Item:
        """On the thread that owns MLX: one step for all."""
        if isinstance(item, Tick):
            with self._stats.generate.measure():
                made = self._batch.generate({slot.talking: codes for slot, codes in item.items.items()})
            return replace(item, items={slot: made[slot.talking] for slot in item.items})
        if item.control is Control.LEAVE:  # a broken one, too: its row must not be waited for
            if item.slot.session:
                self._batch.leave(item.slot.session)
        else:
            self._guarded(item.slot, lambda: self._change(item.control, item.slot))
        return item

    def decode(self, item: Item) -> None:
        """On the thread of the decoder: codes to replies, to their listeners."""
        if isinstance(item, Tick):
            with self._stats.decode.measure():
                replies = self._each(self._decode, item)
            self._answered(item)
            for slot, reply in replies.items.items():
                if reply is not None:
                    slot.listener.write(reply)
        elif item.control is RESET:
            self._guarded(item.slot, lambda: item.slot.talking.reset_decoder())
            item.slot.listener.began_anew()
        elif item.control is Control.LEAVE:
            self.close(item.slot)

    def close(self, slot: Slot) -> None:
        """Give back what a slot's session holds."""
        if slot.session is None:
            return
        if self._pool:
            self._pool.submit(slot.session.close)  # a process of the codec takes a moment to end
        else:
            slot.session.close()

    def _change(self, control: Control, slot: Slot) -> None:
        if control is Control.JOIN:
            slot.session = self._batch.join(slot.seed, slot.sampling, slot.conditions, slot.prompt)
            slot.listener.joined()
        elif slot.session is None:
            return
        elif control is TRIM:
            slot.session.trim()
        elif control is RESET:
            if slot.seed is None:
                slot.session.seed = new_seed()
            slot.session.reset_generation()

    def _encode(self, slot: Slot, frame: np.ndarray) -> np.ndarray:
        codes = self._guarded(slot, lambda: slot.talking.encode(frame))
        # A row of the batch cannot pause; of a broken one nobody hears what it says.
        return np.zeros(self._batch.moshi.lm.config.input_codebooks, np.int32) if codes is None else codes

    def _decode(self, slot: Slot, generated: Generated) -> Reply | None:
        return self._guarded(slot, lambda: slot.talking.decode(generated))

    def _each(self, function: Callable[[Slot, Any], Any], tick: Tick) -> Tick:
        """A stage of the codec for every slot, at the same time where it is outside MLX."""
        slots, inputs = tick.items.keys(), tick.items.values()
        mapping: Callable[..., Iterable[Any]] = self._pool.map if self._pool and len(slots) > 1 else map
        return replace(tick, items=dict(zip(slots, mapping(function, slots, inputs), strict=True)))

    def _guarded(self, slot: Slot, function: Callable[[], T]) -> T | None:
        """What concerns one conversation must not end the others: its first error breaks it."""
        if slot.broken:
            return None
        try:
            return function()
        except MoshiError as error:
            slot.broken = True
            slot.listener.failed(error)
            return None


class _Lockstep:
    """The stream of sessions that get their frames at the same time, each from a source of its own."""

    def __init__(self, parties: Mapping[Session, tuple[Frames, Sink]]) -> None:
        self._sources: dict[Slot, Frames] = {}
        for session, (source, sink) in parties.items():
            slot = Slot(_SinkListener(sink), session.seed, session.sampling)
            slot.session = session
            self._sources[slot] = source

    def __iter__(self) -> Iterator[Item]:
        running = {slot: iter(source) for slot, source in self._sources.items()}
        while running:
            frames: dict[Slot, np.ndarray] = {}
            for slot, source in running.items():
                for item in source:
                    if not isinstance(item, Control):
                        frames[slot] = item
                        break
                    yield Change(item, slot)
            ended = running.keys() - frames.keys()
            running = {slot: source for slot, source in running.items() if slot in frames}
            if frames:
                yield from (Change(Control.LEAVE, slot) for slot in ended)
                yield Tick(frames)

    def close(self) -> None:
        for source in self._sources.values():
            # A generator that is at work, on another thread, refuses to be closed; it ends with that thread.
            with suppress(ValueError) if isgenerator(source) else nullcontext():
                if close := getattr(source, "close", None):
                    close()


class _SinkListener:
    """A sink as the listener of a conversation that nobody else would miss: its errors end the loop."""

    def __init__(self, sink: Sink) -> None:
        self.write = sink.write

    def joined(self) -> None: ...

    def align(self) -> None: ...

    def began_anew(self) -> None: ...

    def failed(self, error: MoshiError) -> None:
        raise error
