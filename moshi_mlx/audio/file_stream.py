"""A recording as the source of a conversation, and an audio file as its sink."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from itertools import chain, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from moshi_mlx.audio.long import LongRecording
from moshi_mlx.audio.writer import AudioWriter
from moshi_mlx.frames import FRAME_SAMPLES, FRAME_SECONDS, silence, split_frames

if TYPE_CHECKING:  # at run time this module needs no model
    from moshi_mlx.runtime.engine import Sink
    from moshi_mlx.runtime.reply import Reply

DEFAULT_LEAD = 2.0  # seconds: Moshi greets first, and a question on top of the greeting is half heard
DEFAULT_TAIL = 10.0  # seconds to answer in


class FileSource:
    """Source of `engine.converse`: the frames of a recording, between silences.

    pcm: (samples,) float32 at 24 kHz. lead, tail: seconds of silence, rounded up to whole frames.
    The first frame is extra silence: a session discards the user's audio of its first step (the model reads its
    initial tokens there), so with it nothing of the recording is lost, and the n-th audio frame of the replies is
    simultaneous with the n-th frame after it.
    """

    ready = True  # frames come at once

    def __init__(self, pcm: np.ndarray, lead: float = DEFAULT_LEAD, tail: float = DEFAULT_TAIL) -> None:
        self._closed = threading.Event()
        self._pcm = pcm
        self.lead, self._tail = _frames(lead), _frames(tail)
        self.frames = self.lead + math.ceil(len(pcm) / FRAME_SAMPLES) + self._tail  # without the extra one

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield (1920,) float32 frames: the extra one, the lead, the recording, the tail."""
        for frame in chain([silence()], self.heard()):
            if self._closed.is_set():
                return
            yield frame

    def heard(self) -> Iterator[np.ndarray]:
        """Yield the frames that the replies with audio are simultaneous with: all but the extra one."""
        pcm: Any = self._pcm
        if isinstance(pcm, LongRecording):  # source and sink hear it at once, at different places
            pcm = pcm.again()
        return chain(repeat(silence(), self.lead), split_frames(pcm), repeat(silence(), self._tail))

    def close(self) -> None:
        """End the iteration before its next frame; from any thread."""
        self._closed.set()


class WavSink:
    """Sink of `engine.converse`: the replies as a WAV file, or as what another suffix names.

    >>> with WavSink("answer.wav") as sink:
    ...     converse(session, FileSource(pcm), sink)

    The file gets its name when the block ends; if the block raises, there is none (see `AudioWriter`).
    Raises AudioFileError where the system refuses and for a format that is not written, already on construction.
    heard: the frames of the other side, if it is to be in the file too: left, the replies right.
    """

    def __init__(self, path: str | Path, heard: Iterator[np.ndarray] | None = None) -> None:
        self._heard = heard
        self.file = AudioWriter(path, 2 if heard else 1)

    def write(self, reply: Reply) -> None:
        """Add the audio of one reply; one without audio adds nothing."""
        if reply.audio is None:
            return
        if self._heard:
            self.file.write(np.stack([next(self._heard, silence()), reply.audio], axis=1))
        else:
            self.file.write(reply.audio)

    def __enter__(self) -> WavSink:
        return self

    def __exit__(self, kind, error, trace) -> None:
        self.file.__exit__(kind, error, trace)


class Tee:
    """Several sinks as one: each gets every reply, in the order given."""

    def __init__(self, *sinks: Sink) -> None:
        self.sinks = sinks

    def write(self, reply: Reply) -> None:
        """Give a reply to all sinks."""
        for sink in self.sinks:
            sink.write(reply)


def speech_end(pcm: np.ndarray) -> float:
    """Find where the speaker stopped: seconds until the last frame that is within 30 dB of the loudest one.

    pcm: (samples,) float32 at 24 kHz. A silent recording gives 0.
    """
    energy = np.array([float(np.mean(np.square(frame, dtype=np.float64))) for frame in split_frames(pcm)])
    if energy.size == 0 or energy.max() == 0:
        return 0.0
    loud = np.flatnonzero(energy >= energy.max() * 1e-3)
    return float(loud[-1] + 1) * FRAME_SECONDS


def _frames(seconds: float) -> int:
    if not (math.isfinite(seconds) and seconds >= 0):
        raise ValueError(f"{seconds} seconds of silence cannot be added: give a number from 0 up")
    return math.ceil(round(seconds / FRAME_SECONDS, 6))
