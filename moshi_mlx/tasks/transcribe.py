"""Speech to text: a recording, or what is being said, to words with times.

How a recording is prepared (silence in front and behind) and what the times mean follows the model's config.
Source: moshi/run_inference.py, `InferenceState.run`, "stt".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from moshi_mlx.errors import ConfigError
from moshi_mlx.frames import SAMPLE_RATE, silence, split_frames
from moshi_mlx.models.config import ConfigReader
from moshi_mlx.runtime.engine import converse_together
from moshi_mlx.runtime.moshi import Moshi
from moshi_mlx.runtime.pipeline import mapped
from moshi_mlx.runtime.session import Reply, Session
from moshi_mlx.sampling_config import GREEDY
from moshi_mlx.tasks.speculation import AHEAD, SpeculativeDecoder
from moshi_mlx.tasks.words import Pause, Transcription, Word, WordStream

TAIL = 1.0  # seconds of silence after the delay, in which the last words are finished
TOGETHER = 8  # recordings in one batch


@dataclass(frozen=True)
class SttTiming:
    """How a speech-to-text model places its text. delay, prefix: seconds, see `WordStream`."""

    delay: float = 0.0
    prefix: float = 0.0

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> SttTiming:
        """Read `stt_config` of a config.json. Raises ConfigError, which names the field."""
        read = ConfigReader(settings).section("stt_config", {})
        return cls(
            delay=read.number("audio_delay_seconds", 0.0, below=60),
            prefix=read.number("audio_silence_prefix_seconds", 0.0, below=60),
        )


class Transcriber:
    """A loaded speech-to-text model.

    ahead: frames of known audio that are read in one pass, see `SpeculativeDecoder`; 1 is stepping.
    Raises ConfigError for a model that speaks.

    >>> transcriber = Transcriber(moshi, SttTiming.from_settings(checkpoint.settings))
    >>> transcriber.transcribe(read_audio("talk.wav").pcm).text
    """

    def __init__(self, moshi: Moshi, timing: SttTiming, ahead: int = AHEAD) -> None:
        if moshi.lm.config.depth:
            raise ConfigError(
                "this model speaks, it is no speech-to-text model: transcribe with one such as stt-1b"
            )
        self.moshi, self.timing = moshi, timing
        self.decoder = SpeculativeDecoder(moshi.lm, ahead, kv_bits=moshi.kv_bits)

    @property
    def finds_pauses(self) -> bool:
        """Whether the model has the heads that predict voice activity."""
        return self.moshi.lm.config.extra_heads > 0

    def words(self, seconds: float = float("inf")) -> WordStream:
        """What makes words of the tokens of one recording."""
        return WordStream(
            self.moshi.tokenizer, self.moshi.lm.config, self.timing.prefix, self.timing.delay, seconds
        )

    def frames(self, pcm: np.ndarray) -> Iterator[np.ndarray]:
        """Cut a recording, (samples,) float32 at 24 kHz, into frames, with the silence that the model wants."""
        before = np.zeros(round(self.timing.prefix * SAMPLE_RATE), np.float32)
        after = np.zeros(round((self.timing.delay + TAIL) * SAMPLE_RATE), np.float32)
        return split_frames(np.concatenate([before, pcm, after]))

    def events(self, pcm: np.ndarray) -> Iterator[Word | Pause]:
        """Yield the words and pauses of a recording as they are found.

        pcm: (samples,) float32 at 24 kHz. As many frames as possible are read in one pass; the words are those of
        stepping through them. Closing the iterator ends the work.
        """
        stream, words = self.moshi.codec.stream(), self.words(len(pcm) / SAMPLE_RATE)
        codebooks = self.moshi.lm.config.input_codebooks
        threaded = self.moshi.codec.threaded
        try:
            with mapped("encode", stream.encode, self.frames(pcm), threaded, 2 * AHEAD, {}) as codes:
                for heard in self.decoder.decode(frame[:codebooks] for frame in codes):
                    yield from words.push(heard.text_id, heard.vad)
            yield from words.finish()
        finally:
            stream.close()

    def transcribe(self, pcm: np.ndarray) -> Transcription:
        """Transcribe a recording, (samples,) float32 at 24 kHz."""
        return collected(self.events(pcm), len(pcm) / SAMPLE_RATE)

    def transcribe_together(self, recordings: Sequence[np.ndarray], size: int = TOGETHER) -> list[Transcription]:
        """Transcribe several recordings, up to `size` of them in every step of the model; the longest first."""
        found: dict[int, Transcription] = {}
        order = sorted(range(len(recordings)), key=lambda index: -len(recordings[index]))
        for start in range(0, len(order), size):
            group = order[start : start + size]
            batch = self.moshi.batch(len(group))
            sinks = {index: WordSink(self.words(len(recordings[index]) / SAMPLE_RATE)) for index in group}
            sessions: dict[Session, int] = {batch.join(0, GREEDY): index for index in group}
            converse_together(
                {
                    session: (_Frames(self.frames(recordings[index])), sinks[index])
                    for session, index in sessions.items()
                }
            )
            for session, index in sessions.items():
                session.close()
                events = iter([*sinks[index].events, *sinks[index].words.finish()])
                found[index] = collected(events, len(recordings[index]) / SAMPLE_RATE)
        return [found[index] for index in range(len(recordings))]


class WordSink:
    """A sink of `converse`: the words and pauses of what is heard, in `events`."""

    def __init__(self, words: WordStream) -> None:
        self.words = words
        self.events: list[Word | Pause] = []

    def write(self, reply: Reply) -> None:
        """Add what is complete with this reply."""
        assert reply.text_id is not None
        self.events += self.words.push(reply.text_id, reply.vad)


class _Frames:
    """A source of `converse`: frames, after the one that sessions do not hear."""

    def __init__(self, frames: Iterator[np.ndarray]) -> None:
        self._frames = frames

    def __iter__(self) -> Iterator[np.ndarray]:
        yield silence()
        yield from self._frames

    def close(self) -> None: ...


def collected(events: Iterator[Word | Pause], seconds: float) -> Transcription:
    """Return what was found in a recording of so many seconds."""
    words: list[Word] = []
    pauses: list[Pause] = []
    for event in events:
        if isinstance(event, Word):
            words.append(event)
        else:
            pauses.append(event)
    return Transcription(seconds, words, pauses)
