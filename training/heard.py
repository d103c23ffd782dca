"""A listener for figures and tests: what was said, and when it could be heard."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING

import numpy as np

from moshi_mlx.audio.file_stream import FileSource
from moshi_mlx.codec.base import or_raise
from moshi_mlx.conversation.transcript import Transcript
from moshi_mlx.frames import silence
from moshi_mlx.runtime.engine import converse_together
from moshi_mlx.runtime.reply import Reply

if TYPE_CHECKING:
    from moshi_mlx.runtime.batch import Batch
    from moshi_mlx.runtime.moshi import Moshi
    from moshi_mlx.runtime.reply import Generated
    from moshi_mlx.runtime.session import Session

LOUD = 10 ** (-45 / 20)  # RMS of a frame that can be heard
TOGETHER = 50  # conversations in a batch


class Heard(Transcript):
    """A sink: the words with their times, and one frame of audio per step, in order of arrival."""

    def __init__(self) -> None:
        super().__init__()
        self.frames: list[np.ndarray] = []

    def write(self, reply: Reply) -> None:
        super().write(reply)
        self.frames.append(silence() if reply.audio is None else reply.audio)

    @property
    def loud(self) -> np.ndarray:
        """Whether each frame can be heard."""
        return np.array([np.sqrt(np.mean(frame**2)) > LOUD for frame in self.frames])

    @property
    def pcm(self) -> np.ndarray:
        return np.concatenate(self.frames)


def listen(moshi: Moshi, recordings: Sequence[np.ndarray], lead: float, tail: float) -> list[Heard]:
    """What a model says to each recording, in a conversation of its own between so many seconds of silence.

    Conversations are stepped TOGETHER at a time, those of about a length, which changes nothing in any of them.
    """

    def talk(sources: list[FileSource], heard: list[Heard]) -> None:
        batch = moshi.batch(len(heard))
        converse_together({batch.join(seed=0): party for party in zip(sources, heard, strict=True)})

    return _together(talk, recordings, lead, tail)


def read_along(moshi: Moshi, recordings: Sequence[np.ndarray], lead: float, tail: float) -> list[Heard]:
    """As `listen`, but only the words: no audio is decoded, which takes a third of the time."""

    def talk(sources: list[FileSource], heard: list[Heard]) -> None:
        batch = moshi.batch(len(heard))
        sinks = {batch.join(seed=0): sink for sink in heard}
        for generated in undecoded(batch, dict(zip(sinks, sources, strict=True))):
            for session, sink in sinks.items():
                if generated[session].text:
                    sink.pieces.append((generated[session].time, generated[session].text))

    return _together(talk, recordings, lead, tail)


def undecoded(batch: Batch, sources: Mapping[Session, FileSource]) -> Iterator[dict[Session, Generated]]:
    """What the sessions of a batch make of their sources, frame by frame; none of it becomes audio."""
    for frames in zip_longest(*sources.values(), fillvalue=silence()):
        codes = batch.encode(dict(zip(sources, frames, strict=True)))()
        yield batch.generate({session: or_raise(found) for session, found in codes.items()})


def _together(
    talk: Callable[[list[FileSource], list[Heard]], None],
    recordings: Sequence[np.ndarray],
    lead: float,
    tail: float,
) -> list[Heard]:
    heard = [Heard() for _ in recordings]
    order = sorted(range(len(recordings)), key=lambda index: len(recordings[index]))
    for first in range(0, len(order), TOGETHER):
        some = order[first : first + TOGETHER]
        talk([FileSource(recordings[index], lead, tail) for index in some], [heard[index] for index in some])
    return heard
