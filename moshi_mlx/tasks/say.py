"""Text to speech: what a model that says a text (Kyutai TTS) makes of it, frame by frame.

A voice is vectors that the model attends to, or a recording that it has spoken already. Audio follows the text by
a delay that the model was trained with; words have the times at which they begin.
Source: moshi/models/tts.py `TTSModel.generate`; moshi/run_tts.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from moshi_mlx.errors import ConfigError
from moshi_mlx.frames import FRAME_RATE, FRAME_SECONDS, SAMPLE_RATE, split_frames
from moshi_mlx.models.conditioner_config import Condition, Vectors
from moshi_mlx.models.config import LmConfig
from moshi_mlx.runtime.moshi import Moshi
from moshi_mlx.runtime.session import Generated, Session
from moshi_mlx.sampling_config import SamplingConfig, new_seed
from moshi_mlx.tasks.script import NO_TOKEN, Feeder, Parts, Word, Words

SPEAKERS, CFG, CONTROL = "speaker_wavs", "cfg", "control"  # conditioners
PLACES = 5  # speakers that a model was trained with
CUT = 2  # frames at the end of a recording that a voice leaves out
TEMPERATURE = 0.6


@dataclass(frozen=True)
class Pace:
    """How a text is said, in steps of 80 ms.

    between: padding after each word, at least. most: padding in a row, at most. first: padding before the text.
    last: frames after the text. guidance: how closely voice and text are kept to, 1 for none.
    """

    between: int = 1
    most: int = 8
    first: int = 2
    last: int = 4
    guidance: float = 2.0


DEFAULT_PACE = Pace()


class Spoken(NamedTuple):
    """A frame of speech.

    audio: (1920,) float32. words: those that are known by now and were not told before, (text, seconds from the
    first frame); a word is known before its audio is there.
    """

    audio: np.ndarray
    words: list[tuple[str, float]]


class TextScript:
    """A text, and what a voice said before it, for a session; see `runtime.step.Script`.

    prefix: (dep_q, T) int, the codes of a voice; T = 0 for none.
    """

    def __init__(self, config: LmConfig, feeder: Feeder, prefix: np.ndarray) -> None:
        assert config.tts, "a text-to-speech model"
        self.feeder = feeder
        self.delay = int(config.tts.delay * FRAME_RATE)  # frames; as PyTorch cuts it
        self.prefix, self.prefix_frames = prefix, prefix.shape[1]
        self._delays = np.array(config.delays)
        self._step = 0

    @property
    def ended(self) -> bool:
        """Whether the text has been said but for its last sounds."""
        return self.feeder.ended_at is not None

    def choices(self) -> tuple[int, int]:
        """As in `Script`."""
        return (NO_TOKEN, NO_TOKEN) if self._step < self.prefix_frames else self.feeder.choices()

    def speaks(self, step: int) -> bool:
        """As in `Script`: before the delay there is no audio, and a voice's is known."""
        return step >= self.delay + self.prefix_frames

    def take(self, step: int, sampled: np.ndarray) -> np.ndarray:
        """As in `Script`."""
        self._step = step + 1
        text = NO_TOKEN if step < self.prefix_frames else self.feeder.step(step, int(sampled[0]))
        codes = sampled[1:].copy()
        frames = step - self.delay - self._delays[1 : 1 + len(codes)]  # of each codebook
        codes[frames < 0] = NO_TOKEN
        if (known := (frames >= 0) & (frames < self.prefix_frames)).any():
            codes[known] = self.prefix[np.flatnonzero(known), frames[known]]
        return np.array([text, *codes], np.int32)

    def live_through_prefix(self, session: Session) -> int:
        """Let a new session live through the prefix, many frames at once. Returns the steps that this took."""
        count, config = self.prefix_frames, session.batch.moshi.lm.config
        if count:  # what is given here is replaced in `take`
            nothing = np.full((count, 1 + config.dep_q), NO_TOKEN, np.int32)
            session.batch.prefill(session, nothing[:, 0], nothing[:, 1:], np.zeros((count, 0), np.int32))
        return count

    def contrary(self, step: int, tokens: np.ndarray) -> np.ndarray:
        """As in `Script`: neither the text nor the voice. Source: moshi/models/lm.py `LMGen._step`."""
        begun = step > self._delays
        hidden = begun & (np.arange(len(tokens)) == 0)
        if self.prefix_frames:
            hidden |= begun & (step <= self._delays + self.prefix_frames + self.delay)
        return np.where(hidden, NO_TOKEN, tokens)


def say(
    moshi: Moshi,
    text: str | Sequence[str] | Iterator[Word],
    voices: Sequence[np.ndarray] = (),
    *,
    pace: Pace = DEFAULT_PACE,
    seed: int | None = None,
    sampling: SamplingConfig | None = None,
) -> Iterator[Spoken]:
    """Say a text, and yield the frames of its audio as they are made.

    text: one, or the turns of two speakers in alternation ("" passes a turn on), or words as `Words` makes them,
    taken only when they are needed. voices: vectors of each speaker, (T, dim), or one recording, (samples,) at
    24 kHz, whichever the model takes.
    sampling: temperatures of 0.6 unless given. seed: random unless given.
    A long text is said in parts that end with sentences, each with the same voice and seed.
    Raises ConfigError for a model that says no text, and for voices or a pace that it cannot have.

    >>> audio = [frame.audio for frame in say(moshi_mlx.load("tts-1.6b"), "Good morning!", [voice])]
    """
    check_says(moshi.lm.config)
    words = (
        text if isinstance(text, Iterator) else words_of(moshi, [text] if isinstance(text, str) else text, pace)
    )
    conditions, prefix = voiced(moshi, voices, pace)
    parts, before = Parts(words), 0
    seed = new_seed() if seed is None else seed
    sampling = sampling or replace(moshi.sampling, text_temperature=TEMPERATURE, audio_temperature=TEMPERATURE)
    learned = CFG in moshi.lm.config.conditioners
    while parts.more:
        script = TextScript(moshi.lm.config, new_feeder(moshi.lm.config, pace), prefix)
        with moshi.session(seed, sampling, conditions, 1.0 if learned else pace.guidance) as session:
            session.script = script
            count = 0
            for audio, said in _part(session, script, parts.part(), pace):
                count += 1
                yield Spoken(audio, [(word, (before + at) * FRAME_SECONDS) for word, at in said])
        before += count


def _part(
    session: Session, script: TextScript, words: Iterator[Word], pace: Pace
) -> Iterator[tuple[np.ndarray, list[tuple[str, int]]]]:
    """Yield the frames of a part, and the words that became known with each, (word, frame)."""
    feeder, nothing = script.feeder, np.zeros(0, np.int32)
    told = 0
    step = script.live_through_prefix(session)
    frame = max(0, step - max(session.batch.moshi.lm.config.delays))  # those that have come out
    for codes in script.prefix.T[: max(0, frame - script.delay)]:
        session.decode(Generated(codes, "", NO_TOKEN, 0.0))  # for the codec to go on from
    while feeder.ended_at is None or step < feeder.ended_at + script.delay + pace.last:
        supply(feeder, words)
        generated = session.generate(nothing)
        step += 1
        if generated.codes is None:
            continue
        frame += 1
        if frame <= script.delay:  # nothing is said yet
            continue
        audio = session.decode(generated).audio  # also of the voice's own words: the codec goes on from them
        if audio is not None and frame > script.delay + script.prefix_frames:
            said, told = feeder.said[told:], len(feeder.said)
            yield audio, [(word, at - script.prefix_frames) for word, at in said]


def new_feeder(config: LmConfig, pace: Pace = DEFAULT_PACE) -> Feeder:
    """Return what feeds a text to a model."""
    ahead = config.tts.words_ahead if config.tts else 0
    word, pad = config.text_end_padding_id, config.text_padding_id
    return Feeder(config.text_card + 1, ahead, most=pace.most, first=pace.first, word=word, pad=pad)


def supply(feeder: Feeder, words: Iterator[Word]) -> None:
    """Give a feeder as many words as it may need at the next step."""
    while feeder.hungry:
        word = next(words, None)
        if word is None:
            feeder.complete = True
        else:
            feeder.words.append(word)


def words_of(moshi: Moshi, turns: Iterable[str], pace: Pace = DEFAULT_PACE) -> Iterator[Word]:
    """Yield the words of turns, each when it is asked for."""
    words = new_words(moshi, pace)
    for turn in turns:
        yield from words.turn(turn)


def new_words(moshi: Moshi, pace: Pace = DEFAULT_PACE) -> Words:
    """Return what makes words of turns for a model."""
    return Words(moshi.tokenizer.encode, SPEAKERS in moshi.lm.config.conditioners, pace.between)


def voiced(moshi: Moshi, voices: Sequence[np.ndarray], pace: Pace) -> tuple[Mapping[str, Condition], np.ndarray]:
    """Return what gives a model its voices: conditions, and codes that it goes on from, (dep_q, T).

    Raises ConfigError.
    """
    config = moshi.lm.config
    conditions: dict[str, Condition] = {}
    none = np.zeros((config.dep_q, 0), np.int32)
    if CFG in config.conditioners:
        conditions[CFG] = format(pace.guidance, ".1f")
    if CONTROL in config.conditioners:
        conditions[CONTROL] = "ok"
    if SPEAKERS in config.conditioners:
        if not voices:
            raise ConfigError("this model needs a voice: vectors of a speaker, such as those of kyutai/tts-voices")
        conditions[SPEAKERS] = speakers(voices)
        return conditions, none
    if len(voices) > 1:
        raise ConfigError(f"{len(voices)} voices: this model takes one, a recording that it goes on from")
    return conditions, prefix_codes(moshi, voices[0]) if voices else none


def speakers(voices: Sequence[np.ndarray]) -> Vectors:
    """Put the vectors of speakers, (T, dim) float32 each, where a model expects them. Raises ConfigError."""
    if not 0 < len(voices) <= PLACES or any(voice.shape != voices[0].shape or voice.ndim != 2 for voice in voices):
        shapes = [voice.shape for voice in voices]
        raise ConfigError(f"voices of shapes {shapes}: 1 to {PLACES} of one shape, (vectors, width), expected")
    length, width = voices[0].shape
    values = np.zeros((PLACES * length, width), np.float32)
    values[: len(voices) * length] = np.concatenate(voices)
    return Vectors(values, np.arange(PLACES * length) < len(voices) * length)


def prefix_codes(moshi: Moshi, pcm: np.ndarray) -> np.ndarray:
    """Return the codes of a recording that a model goes on from, (dep_q, T) int32.

    pcm: (samples,) float32 at 24 kHz. Raises ConfigError for one that is too short, or longer than the window.
    """
    config = moshi.lm.config
    if pcm.ndim != 1:
        raise ConfigError(f"a voice of shape {pcm.shape}: this model takes a recording, (samples,), to go on from")
    stream = moshi.codec.stream()
    try:
        codes = [stream.encode(frame)[: config.dep_q] for frame in split_frames(pcm)][:-CUT]
    finally:
        stream.close()
    if not 0 < len(codes) < config.transformer.context:
        longest = config.transformer.context * FRAME_SECONDS
        raise ConfigError(
            f"a voice of {len(pcm) / SAMPLE_RATE:.2f} s: more than 0.2 s and less than {longest:g} s expected"
        )
    return np.array(codes, np.int32).T


def check_says(config: LmConfig, name: str = "this model") -> LmConfig:
    """Return the config, or raise ConfigError for that of a model that says no text."""
    if not config.tts or config.input_codebooks or not config.depth:
        raise ConfigError(f"{name} does not say texts: use one such as tts-1.6b")
    return config
