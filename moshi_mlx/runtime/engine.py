"""The one loop of the package: frames from a source, through a session, to a sink.

    source ─► [encode] ─► codes ─► generate (this thread, owns MLX) ─► codes, text ─► [decode] ─► sink

With a codec that runs outside MLX the bracketed stages have a thread each, so that a frame costs the slowest stage
and not the sum; else they run in turn on this thread. `RESET` in the stream of frames travels through all stages
in order: what came before it is finished, what comes after it is a new conversation. `REFRESH` leaves the codec
alone: only the model forgets, all but what its session remembers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from enum import Enum
from typing import Any, Protocol

import numpy as np

from moshi_mlx.runtime.limits import steady
from moshi_mlx.runtime.pipeline import called, mapped
from moshi_mlx.runtime.session import Batch, Generated, Reply, Session
from moshi_mlx.runtime.stats import Stats


class Control(Enum):
    """What can stand between frames."""

    RESET = "reset"
    REFRESH = "refresh"


RESET, REFRESH = Control.RESET, Control.REFRESH

QUEUE_FRAMES = 4  # between stages: enough to ride out a slow frame, little enough to stay live


class Source(Protocol):
    """Where frames come from."""

    def __iter__(self) -> Iterator[np.ndarray | Control]:
        """(1920,) float32 frames at 24 kHz, RESET or REFRESH; may wait for the next one."""
        ...

    def close(self) -> None:
        """Stop: a thread that waits for the next frame returns soon. Called once, from any thread."""
        ...


class Sink(Protocol):
    """Where replies go."""

    def write(self, reply: Reply) -> None:
        """Take one reply, in order, always from the same thread."""
        ...


class Stages(Protocol):
    """What is done with every item of a stream; what is no frame passes through all three, in its order."""

    def encode(self, item: Any, /) -> Any: ...

    def generate(self, item: Any, /) -> Any: ...

    def decode(self, item: Any, /) -> None: ...


class Stream(Protocol):
    """What goes through the stages: it may wait for its next item, and can be closed from any thread."""

    def __iter__(self) -> Iterator[Any]: ...

    def close(self) -> None: ...


def converse(session: Session, source: Source, sink: Sink, stats: Stats | None = None) -> Stats:
    """Feed every frame of `source` through `session` and give every reply to `sink`.

    stats: where to count, for whoever wants to watch; returned as well.

    Returns when the source ends. The calling thread runs the language model. An error in any stage stops all
    of them and is raised here; the source is closed in every case, the sink belongs to the caller.
    """
    stats = stats or Stats()
    return run(_Conversation(session, sink, stats), source, session.batch, stats)


def run(stages: Stages, stream: Stream, batch: Batch, stats: Stats) -> Stats:
    """The loop: every item of `stream` through the stages; `converse` for one session, `company` for several."""
    threaded = batch.moshi.codec.threaded
    depths = stats.queue_depths
    with (
        stats.timed(),
        called("decode", stages.decode, threaded, QUEUE_FRAMES, depths) as output,
        mapped("encode", stages.encode, stream, threaded, QUEUE_FRAMES, depths) as encoded,
        closing(stream),
        steady(batch.held_bytes),
    ):
        for item in encoded:
            output(stages.generate(item))
    return stats


class _Conversation:
    """The stages of one session."""

    def __init__(self, session: Session, sink: Sink, stats: Stats) -> None:
        self._session, self._sink, self._stats = session, sink, stats

    def encode(self, frame: np.ndarray | Control) -> np.ndarray | Control:
        if isinstance(frame, Control):
            if frame is RESET:
                self._session.reset_encoder()
            return frame
        with self._stats.encode.measure():
            return self._session.encode(frame)

    def generate(self, codes: np.ndarray | Control) -> Generated | Control:
        if isinstance(codes, Control):
            if codes is RESET:
                self._session.reset_generation()
            else:
                self._session.refresh()
            return codes
        with self._stats.generate.measure():
            return self._session.generate(codes)

    def decode(self, generated: Generated | Control) -> None:
        if isinstance(generated, Control):
            if generated is RESET:
                self._session.reset_decoder()
            return
        with self._stats.decode.measure():
            reply = self._session.decode(generated)
        self._sink.write(reply)
