"""The one loop of the package: frames from a source, through a session, to a sink.

    source ─► [encode] ─► codes ─► generate (this thread, owns MLX) ─► codes, text ─► [decode] ─► sink

With a codec that runs outside MLX the bracketed stages have a thread each, so that a frame costs the slowest stage
and not the sum; else they run in turn on this thread. `RESET` in the stream of frames travels through all stages
in order: what came before it is finished, what comes after it is a new conversation.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from enum import Enum
from typing import Protocol

import numpy as np

from moshi_mlx.realtime import steady
from moshi_mlx.session import Generated, Reply, Session
from moshi_mlx.stages import called, mapped
from moshi_mlx.stats import Stats


class Control(Enum):
    """What can stand between frames."""

    RESET = "reset"


RESET = Control.RESET

QUEUE_FRAMES = 4  # between stages: enough to ride out a slow frame, little enough to stay live


class Source(Protocol):
    """Where frames come from."""

    def __iter__(self) -> Iterator[np.ndarray | Control]:
        """(1920,) float32 frames at 24 kHz, or RESET; may wait for the next one."""
        ...

    def close(self) -> None:
        """Stop: a thread that waits for the next frame returns soon. Called once, from any thread."""
        ...


class Sink(Protocol):
    """Where replies go."""

    def write(self, reply: Reply) -> None:
        """Take one reply, in order, always from the same thread."""
        ...


def converse(session: Session, source: Source, sink: Sink, stats: Stats | None = None) -> Stats:
    """Feed every frame of `source` through `session` and give every reply to `sink`.

    stats: where to count, for whoever wants to watch; returned as well.

    Returns when the source ends. The calling thread runs the language model. An error in any stage stops all
    of them and is raised here; the source is closed in every case, the sink belongs to the caller.
    """
    stats = stats or Stats()

    def encode(frame: np.ndarray | Control) -> np.ndarray | Control:
        if isinstance(frame, Control):
            session.reset_encoder()
            return frame
        with stats.encode.measure():
            return session.encode(frame)

    def decode(generated: Generated | Control) -> None:
        if isinstance(generated, Control):
            session.reset_decoder()
            return
        with stats.decode.measure():
            reply = session.decode(generated)
        sink.write(reply)

    started = time.perf_counter()
    threaded = session.batch.moshi.codec.threaded
    depths = stats.queue_depths
    with (
        called("decode", decode, threaded, QUEUE_FRAMES, depths) as output,
        mapped("encode", encode, source, threaded, QUEUE_FRAMES, depths) as encoded,
        closing(source),
        steady(session.batch.held_bytes),
    ):
        for codes in encoded:
            if isinstance(codes, Control):
                session.reset_generation()
                output(codes)
                continue
            with stats.generate.measure():
                generated = session.generate(codes)
            output(generated)
    stats.seconds = time.perf_counter() - started
    return stats
