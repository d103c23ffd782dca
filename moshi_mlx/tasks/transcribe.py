"""Speech to text: a recording, or what is being said, to words with times.

How a recording is prepared (silence in front and behind) and what the times mean follows the model's config.
Source: moshi/run_inference.py, `InferenceState.run`, "stt".
"""

from __future__ import annotations

import math
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.checkpoint.names import DEFAULT_STT_MODEL
from moshi_mlx.errors import ConfigError, SessionError
from moshi_mlx.frames import FRAME_SAMPLES, FRAME_SECONDS, SAMPLE_RATE, checked_audio, silence
from moshi_mlx.models.config import ConfigReader
from moshi_mlx.models.lm import Lm
from moshi_mlx.runtime.engine import Sink, converse, converse_together
from moshi_mlx.runtime.moshi import Moshi, assemble
from moshi_mlx.runtime.pipeline import mapped
from moshi_mlx.runtime.reply import Reply
from moshi_mlx.runtime.session import Session
from moshi_mlx.sampling_config import GREEDY
from moshi_mlx.tasks.speculation import AHEAD, SpeculativeDecoder
from moshi_mlx.tasks.words import Pause, Transcription, Word, WordStream
from moshi_mlx.weights.extra_heads import add_extra_heads

TAIL = 1.0  # seconds of silence after the delay, in which the last words are finished
TOGETHER = 8  # recordings in one batch
TRIES = 5  # of a product, whose best time counts
WORTHWHILE = {AHEAD: 1.8, 4: 1.5}  # frames of a pass -> times the cost of one step that it may have


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


def load_transcriber(
    model: str | os.PathLike[str] = DEFAULT_STT_MODEL,
    *,
    codec: str = "auto",
    kv_bits: int | None = None,
    offline: bool = False,
    vad_heads: Path | None = None,
) -> Transcriber:
    """Find a speech-to-text model and load it.

    vad_heads: a file that holds voice activity heads, for a model without; see `weights.extra_heads`. The rest is
    as of `load`. Raises what `load` raises, and ConfigError for a model that speaks.
    """
    found = Checkpoint.resolve(model, offline=offline)
    for note in found.choices:
        warnings.warn(note, stacklevel=2)
    moshi = assemble(found, codec, kv_bits, tell=warnings.warn)
    if vad_heads:
        add_extra_heads(moshi.lm, vad_heads)
    return Transcriber(moshi, SttTiming.from_settings(found.settings))


class Transcriber:
    """A loaded speech-to-text model.

    ahead: frames of known audio that are read in one pass, see `SpeculativeDecoder`; 1 is stepping. Unless given,
        as many as pay: see `worthwhile_ahead`.
    Raises ConfigError for a model that speaks.

    >>> transcriber = load_transcriber("stt-1b")
    >>> transcriber.transcribe(read_audio("talk.wav").pcm).text
    """

    def __init__(self, moshi: Moshi, timing: SttTiming, ahead: int | None = None) -> None:
        if moshi.lm.config.depth:
            raise ConfigError(
                "this model speaks, it is no speech-to-text model: transcribe with one such as stt-1b"
            )
        self.moshi, self.timing = moshi, timing
        self.decoder = SpeculativeDecoder(moshi.lm, ahead or worthwhile_ahead(moshi.lm), kv_bits=moshi.kv_bits)

    @property
    def finds_pauses(self) -> bool:
        """Whether the model has the heads that predict voice activity."""
        return self.moshi.lm.config.extra_heads > 0

    def words(self, seconds: float = float("inf")) -> WordStream:
        """What makes words of the tokens of one recording."""
        return WordStream(
            self.moshi.tokenizer, self.moshi.lm.config, self.timing.prefix, self.timing.delay, seconds
        )

    @property
    def settling(self) -> int:
        """Frames of silence that the model is to hear before what is said live: its prefix, in whole frames."""
        return math.ceil(round(self.timing.prefix / FRAME_SECONDS, 6))

    def live_words(self) -> WordStream:
        """What makes words of the tokens of what is said live, behind `settling` frames of silence."""
        prefix = self.settling * FRAME_SECONDS
        return WordStream(self.moshi.tokenizer, self.moshi.lm.config, prefix, self.timing.delay)

    def settle(self, session: Session, sink: Sink) -> None:
        """Let a session that has heard nothing hear the silence before what is said live.

        Its very first frame, which the model never hears, is among them, so that the next one counts as the first.
        """
        converse(session, [silence()] * (1 + self.settling), sink)

    def source(self, pcm: np.ndarray) -> RecordingSource:
        """Prepare (samples,) float32 at 24 kHz for the model."""
        return RecordingSource(pcm, self.timing)

    def events(
        self, source: RecordingSource, advance: Callable[[int], None] = lambda frames: None
    ) -> Iterator[Word | Pause]:
        """Yield the words and pauses of a recording as they are found.

        As many frames as possible are read in one pass; the words are those of stepping through them.
        advance: told of frames as they are done, `source.frames` in all.
        """
        stream, words = self.moshi.codec.stream(), self.words(source.seconds)
        codebooks, threaded = self.moshi.lm.config.input_codebooks, self.moshi.codec.threaded
        heard_frames = islice(source, 1, None)  # the decoder takes the step before the first one by itself
        try:
            with mapped("encode", stream.encode, heard_frames, threaded, 2 * AHEAD, {}) as codes:
                for heard in self.decoder.decode(frame[:codebooks] for frame in codes):
                    advance(1)
                    yield from words.push(heard.text_id, heard.vad)
            yield from words.finish()
        finally:
            stream.close()

    def steps(self, source: RecordingSource) -> Iterator[list[Word | Pause]]:
        """As `events`, on the calling thread alone and a little at a time: yields what was found, mostly nothing,
        after each frame that was encoded and after each pass of the model.
        """
        stream, words, reading = self.moshi.codec.stream(), self.words(source.seconds), self.decoder.begin()
        codebooks = self.moshi.lm.config.input_codebooks

        def read() -> list[Word | Pause]:
            return [event for heard in reading.advance() for event in words.push(heard.text_id, heard.vad)]

        try:
            for frame in islice(source, 1, None):
                reading.add(stream.encode(frame)[:codebooks])
                yield []
                if reading.waiting >= self.decoder.ahead:
                    yield read()
            while reading.waiting:
                yield read()
            yield [*words.finish()]
        finally:
            stream.close()

    def transcribe(self, pcm: np.ndarray) -> Transcription:
        """Transcribe a recording, (samples,) float32 at 24 kHz. Raises SessionError for anything else."""
        return collected(self.events(self.source(pcm)), len(pcm) / SAMPLE_RATE)

    def transcribe_together(
        self,
        recordings: Sequence[np.ndarray],
        size: int = TOGETHER,
        advance: Callable[[int], None] = lambda frames: None,
    ) -> list[Transcription]:
        """Transcribe several recordings, up to `size` of them in every step of the model; the longest first.

        advance: as of `events`, for the frames of all. Raises SessionError for a size below 1.
        """
        if size < 1:
            raise SessionError(f"a batch of {size} recordings: at least 1 expected")
        found: dict[int, Transcription] = {}
        order = sorted(range(len(recordings)), key=lambda index: -len(recordings[index]))
        for start in range(0, len(order), size):
            group = order[start : start + size]
            batch = self.moshi.batch(len(group))
            parties: dict[Session, tuple[RecordingSource, WordSink]] = {}
            with ExitStack() as sessions:
                for index in group:
                    prepared = self.source(recordings[index])
                    sink = WordSink(self.words(prepared.seconds), advance=advance)
                    parties[sessions.enter_context(batch.join(0, GREEDY))] = prepared, sink
                converse_together(parties)
            for index, (prepared, sink) in zip(group, parties.values(), strict=True):
                found[index] = collected(sink.finish(), prepared.seconds)
        return [found[index] for index in range(len(recordings))]


class RecordingSource:
    """A source of `converse`: a recording with silence in front and behind, as a model wants it.

    pcm: (samples,) float32 at 24 kHz. The first frame is extra, as of `FileSource`. `frames` counts it.
    Raises SessionError for anything else, whole numbers and NaN included.
    """

    def __init__(self, pcm: np.ndarray, timing: SttTiming) -> None:
        self._pcm = checked_audio(pcm) if isinstance(pcm, np.ndarray) else pcm  # else checked as it is read
        self._before = round(timing.prefix * SAMPLE_RATE)
        self._samples = self._before + len(pcm) + round((timing.delay + TAIL) * SAMPLE_RATE)
        self._closed = threading.Event()
        self.seconds = len(pcm) / SAMPLE_RATE
        self.frames = 1 + math.ceil(self._samples / FRAME_SAMPLES)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield (1920,) float32 frames until `close`."""
        for frame in chain([silence()], self._padded()):
            if self._closed.is_set():
                return
            yield frame

    def close(self) -> None:
        """End the iteration before its next frame; from any thread."""
        self._closed.set()

    def _padded(self) -> Iterator[np.ndarray]:
        """Give the recording between its silences, of which no copy is made: it may be long."""
        for start in range(0, self._samples, FRAME_SAMPLES):
            begin = start - self._before  # in the recording
            frame = silence()
            heard = self._pcm[max(begin, 0) : max(begin + FRAME_SAMPLES, 0)]
            frame[max(-begin, 0) : max(-begin, 0) + len(heard)] = heard
            yield frame


class WordSink:
    """A sink of `converse`: the words and pauses of what is heard, in `events`.

    found: told of each as it is found. advance: told of every frame.
    """

    def __init__(
        self,
        words: WordStream,
        found: Callable[[Word | Pause], None] = lambda event: None,
        advance: Callable[[int], None] = lambda frames: None,
    ) -> None:
        self.events: list[Word | Pause] = []
        self._words, self._found, self._advance = words, found, advance

    def write(self, reply: Reply) -> None:
        """Add what is complete with this reply."""
        assert reply.text_id is not None
        self._add(self._words.push(reply.text_id, reply.vad))
        self._advance(1)

    def finish(self) -> list[Word | Pause]:
        """Add what was not complete; return all events."""
        self._add(self._words.finish())
        return self.events

    def _add(self, events: Iterable[Word | Pause]) -> None:
        for event in events:
            self.events.append(event)
            self._found(event)


def worthwhile_ahead(lm: Lm, seconds: Callable[[int], float] | None = None) -> int:
    """Return how many frames to read in one pass: as many as cost less than the steps they save.

    On a GPU a pass is bound by reading the weights, whatever its rows. On a CPU that is so for dense float32 with
    a good BLAS alone, so there it is tried. MLX 0.32.4 takes 16 rows in 16 times the time of one where weights are
    quantized, in 5 times in bfloat16, and hardly more in float32 with OpenBLAS.
    seconds: what a product of so many rows takes, measured unless given.
    """
    if seconds is None:
        if mx.default_device() == mx.gpu:
            return AHEAD
        seconds = partial(_seconds_of_rows, lm)
    one = seconds(1)
    return next((ahead for ahead, most in WORTHWHILE.items() if seconds(ahead) <= most * one), 1)


def _seconds_of_rows(lm: Lm, rows: int) -> float:
    layer = lm.transformer.layers[0].self_attn.in_proj
    x = mx.ones((1, rows, lm.config.transformer.dim), lm.activation_dtype)
    times = []
    for _ in range(TRIES):
        start = time.perf_counter()
        mx.eval(layer(x))
        times.append(time.perf_counter() - start)
    return min(times)


def collected(events: Iterable[Word | Pause], seconds: float) -> Transcription:
    """Return what was found in a recording of so many seconds."""
    words: list[Word] = []
    pauses: list[Pause] = []
    for event in events:
        if isinstance(event, Word):
            words.append(event)
        else:
            pauses.append(event)
    return Transcription(seconds, words, pauses)
