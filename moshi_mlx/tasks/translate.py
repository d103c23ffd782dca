"""Speech to speech in another language: what a translation model (Hibiki) makes of a recording.

The model hears the recording as it would live, then a frame that says that it has ended, then silence until its
text says that the translation has ended too. Words are those of the target language: the model writes no others.
Source: moshi/run_inference.py, `InferenceState.run`, "hibiki".
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from moshi_mlx.errors import ConfigError
from moshi_mlx.frames import FRAME_SAMPLES, FRAME_SECONDS, silence, split_frames
from moshi_mlx.models.conditioner_config import Condition
from moshi_mlx.models.config import END_OF_TEXT
from moshi_mlx.runtime.engine import Sink, converse
from moshi_mlx.runtime.moshi import Moshi
from moshi_mlx.runtime.reply import Reply
from moshi_mlx.runtime.stages import MARK_END, Control
from moshi_mlx.sampling_config import SamplingConfig

TAIL = 60.0  # seconds after the source in which a model may finish; Hibiki follows within a few seconds


class Translation:
    """A recording on its way through a session: source of `engine.converse` and sink at once.

    pcm: (samples,) float32 at 24 kHz. delay: the longest of the model's delays, in frames. sink: gets the replies
    up to the end of the translation. tail: seconds after the source in which the model may finish.
    The n-th audio frame of the replies is simultaneous with the n-th frame of the recording.
    """

    def __init__(self, pcm: np.ndarray, delay: int, sink: Sink, tail: float = TAIL) -> None:
        if not (math.isfinite(tail) and tail >= 0):
            raise ConfigError(f"a tail of {tail} seconds: a number from 0 up expected")
        self.frames = math.ceil(len(pcm) / FRAME_SAMPLES)  # of the source
        self.ended = False  # the model has said that the translation has ended
        self.early = 0  # times that it said so before the source had ended, which do not count
        self._pcm, self._delay, self._sink = pcm, delay, sink
        self._tail = math.ceil(round(tail / FRAME_SECONDS, 6))
        self._step = -1  # of the latest reply
        self._last: int | None = None  # the step whose reply is the last, once that is known
        self._closed = threading.Event()

    def __iter__(self) -> Iterator[np.ndarray | Control]:
        """Yield a frame that is not heard, the recording, the mark of its end, and silence."""
        for item in self._items():
            if self._closed.is_set():
                return
            yield item

    def _items(self) -> Iterator[np.ndarray | Control]:
        yield silence()  # sessions do not hear their first frame
        yield from split_frames(self._pcm)
        yield MARK_END
        for _ in range(1 + self._tail):  # the first is the mark itself
            yield silence()

    def write(self, reply: Reply) -> None:
        """Take the reply of the next step, and pass it on unless the translation has ended."""
        self._step += 1
        if self._last is not None and self._step > self._last:
            return
        # Words after the end, while the audio of the last frames still comes, are not of this translation.
        self._sink.write(reply if self._last is None else replace(reply, text=""))
        if reply.text_id == END_OF_TEXT and self._last is None:
            whole = self._step + self._delay  # the step at which all of this one's codes are there
            if whole > self.frames:  # where the mark was read or later
                self._last = whole
                self.ended = True
            else:
                self.early += 1
        if self._step == self._last:
            self.close()

    def close(self) -> None:
        """End the iteration before its next frame; from any thread."""
        self._closed.set()


@dataclass(frozen=True)
class Translated:
    """What became of a recording.

    audio: (samples,) float32 at 24 kHz, from the beginning of the recording. pieces: (seconds, text), words begin
    with a space. ended: the model said that the translation has ended; else it was cut off. seed: of its draws.
    """

    audio: np.ndarray
    pieces: list[tuple[float, str]]
    ended: bool
    seed: int

    @property
    def text(self) -> str:
        """All words."""
        return "".join(text for _, text in self.pieces).strip()


def translate(
    moshi: Moshi,
    pcm: np.ndarray,
    *,
    seed: int | None = None,
    sampling: SamplingConfig | None = None,
    conditions: Mapping[str, Condition] | None = None,
    guidance: float | None = None,
    tail: float = TAIL,
) -> Translated:
    """Translate a recording.

    pcm: (samples,) float32 at 24 kHz. seed, sampling, conditions: as in `Batch.join`. guidance: as in `Moshi`.
    tail: seconds after the recording in which the model may finish.
    Raises ConfigError for a model that does not translate, and for conditions or guidance that it cannot have.

    >>> translated = translate(moshi_mlx.load("hibiki-1b"), moshi_mlx.read_audio("talk.wav").pcm, guidance=3)
    """
    check_translates(moshi.translates)
    collected = _Collected()
    translation = Translation(pcm, max(moshi.lm.config.delays), collected, tail)
    with moshi.session(seed, sampling, conditions, guidance) as session:
        converse(session, translation, translation)
    audio = np.concatenate(collected.audio) if collected.audio else np.zeros(0, np.float32)
    return Translated(audio, collected.pieces, translation.ended, session.seed)


def text_steps(
    moshi: Moshi, pcm: np.ndarray, *, seed: int | None = None, tail: float = TAIL
) -> Iterator[list[tuple[float, str]]]:
    """Translate a recording as `translate`, but only into text, and yield what each step of the model adds to it.

    Yields pieces as in `Translated`, mostly none. Arguments and errors as of `translate`.
    """
    check_translates(moshi.translates)
    collected = _Collected()
    translation = Translation(pcm, max(moshi.lm.config.delays), collected, tail)
    with moshi.session(seed) as session:
        for item in translation:
            if isinstance(item, Control):
                session.mark_end()
                continue
            made = session.generate(session.encode(item))
            before = len(collected.pieces)
            translation.write(Reply(None, made.text, made.time, made.vad, made.text_id))
            yield collected.pieces[before:]


def check_translates(does: bool, name: str = "this model") -> None:
    """Raise ConfigError for a model that does not translate."""
    if not does:
        raise ConfigError(f"{name} is no translation model: translate with one such as hibiki-1b")


class _Collected:
    """A sink that keeps audio and words."""

    def __init__(self) -> None:
        self.audio: list[np.ndarray] = []
        self.pieces: list[tuple[float, str]] = []

    def write(self, reply: Reply) -> None:
        if reply.audio is not None:
            self.audio.append(reply.audio)
        if reply.text:
            self.pieces.append((reply.time, reply.text))
