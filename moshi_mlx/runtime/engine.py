"""The one loop of the package: items of a stream, through encode, generate and decode.

    stream ─► [encode] ─► codes ─► generate (this thread, owns MLX) ─► codes, text ─► [decode] ─► listeners

What the items are, and what is done with them, is in `stages`. With a codec that runs outside MLX the bracketed
stages have a thread each, so that a frame costs the slowest stage and not the sum; else they run on this thread,
as far side by side as MLX allows. `converse` drives one conversation, `converse_together` several in lockstep;
`scheduler` those that come and go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext, suppress
from inspect import isgenerator
from typing import Protocol

import numpy as np

from moshi_mlx.errors import MoshiError
from moshi_mlx.runtime.limits import process_limits
from moshi_mlx.runtime.pipeline import Spare, SpareTime, called, mapped
from moshi_mlx.runtime.reply import Reply
from moshi_mlx.runtime.session import Rows, Session
from moshi_mlx.runtime.stages import Change, Control, Item, Slot, Stages, Tick
from moshi_mlx.runtime.stats import Stats

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


class Stream(Protocol):
    """What goes through the stages: it may wait for its next item, and can be closed from any thread."""

    def __iter__(self) -> Iterator[Item]:
        """Yield items in their order, until the stream is closed or has no more."""
        ...

    def ready(self) -> bool:
        """Return whether the next item would come at once."""
        ...

    def close(self) -> None:
        """End the stream after the item at hand."""
        ...


Frames = Source | Iterable[np.ndarray | Control]


def converse(
    session: Session, source: Frames, sink: Sink, stats: Stats | None = None, spare: Spare | None = None
) -> Stats:
    """Feed every frame of `source` through `session` and give every reply to `sink`.

    source: a `Source`, or anything else that gives frames and cannot be closed, such as a list or a generator. Of
    a list, or a source with a true attribute `ready`, a frame may be taken before the last reply is written.
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
    arrivals = SpareTime(stream, spare)
    loop = _on_threads if batch.moshi.codec.threaded else _side_by_side
    with stats.timed(), process_limits(batch.held_bytes):
        loop(stages, stream, arrivals, stats.queue_depths)
    return stats


def _on_threads(stages: Stages, stream: Stream, arrivals: SpareTime[Item], depths: dict[str, int]) -> None:
    """Encode and decode on threads of their own, the model on this one."""

    def encode(item: Item) -> Item:
        return stages.encode(item)()

    def decode(item: Item) -> None:
        stages.decode(item)()

    with (
        called("decode", decode, True, QUEUE_FRAMES, depths) as output,
        mapped("encode", encode, arrivals, True, QUEUE_FRAMES, depths) as encoded,
        closing(stream),
    ):
        for item in encoded:
            output(stages.generate(item))
            arrivals.done()


def _side_by_side(stages: Stages, stream: Stream, arrivals: SpareTime[Item], depths: dict[str, int]) -> None:
    """All stages on this thread. What they begin is worked on by MLX meanwhile, on a CPU by several cores.

    If the next item is there already, as with recordings and for whoever is behind, its frames are encoded while
    the model works on this one's, and the last one's are decoded. Live, nothing waits for a frame to come.
    """
    items = iter(arrivals)

    def begun() -> Callable[[], Item] | None:
        return next((stages.encode(item) for item in items), None)

    with closing(stream):
        coming, going = begun(), None
        while coming:
            item, behind = coming(), stream.ready()
            coming = begun() if behind else None
            made = stages.generate(item)
            if going:
                going()
            going = stages.decode(made)
            if not behind:
                going()
                going = None
            arrivals.done()
            coming = coming if behind else begun()
        if going:
            going()


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

    def ready(self) -> bool:
        return all(
            isinstance(source, Sequence) or getattr(source, "ready", False) for source in self._sources.values()
        )

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
