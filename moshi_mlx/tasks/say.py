"""Text to speech: what a model that says a text (Kyutai TTS) makes of it, frame by frame; also of several at once.

Source: moshi/models/tts.py `TTSModel.generate`; moshi/run_tts.py.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack

import numpy as np

from moshi_mlx.codec.base import or_raise
from moshi_mlx.errors import ConfigError
from moshi_mlx.models.config import LmConfig
from moshi_mlx.runtime.batch import Batch
from moshi_mlx.runtime.moshi import Moshi
from moshi_mlx.sampling_config import SamplingConfig
from moshi_mlx.tasks.script import Word, Words
from moshi_mlx.tasks.utterance import DEFAULT_PACE, Pace, Spoken, Utterance
from moshi_mlx.tasks.voice import SPEAKERS, guidance_of_rows

Text = str | Sequence[str] | Iterator[Word]


def say(
    moshi: Moshi,
    text: Text,
    voices: Sequence[np.ndarray] = (),
    *,
    pace: Pace = DEFAULT_PACE,
    seed: int | None = None,
    sampling: SamplingConfig | None = None,
) -> Generator[Spoken, None, None]:
    """Say a text, and yield after each step of the model what it adds to the speech.

    text: one, or the turns of two speakers in alternation ("" passes a turn on), or words as `Words` makes them,
    taken only when they are needed. voices: vectors of each speaker, (T, dim), or one recording, (samples,) at
    24 kHz, whichever the model takes.
    sampling: temperatures of 0.6 unless given. seed: random unless given.
    Words that the model does not know are left out, with a warning.
    The iterator may be closed at any step, which ends the speech.
    Raises ConfigError for a model that says no text, and for voices or a pace that it cannot have.

    >>> audio = [spoken.audio for spoken in say(moshi_mlx.load("tts-1.6b"), "Good morning!", [voice])]
    """
    check_says(moshi.lm.config)
    with Utterance(moshi, words_of(moshi, text, pace), voices, pace, seed, sampling) as utterance:
        batch = batch_for(moshi, 1, pace)
        while spoken := step(batch, [utterance]):
            yield spoken[utterance]


def say_together(
    moshi: Moshi,
    texts: Iterable[tuple[Text, Sequence[np.ndarray]]],
    *,
    size: int = 8,
    pace: Pace = DEFAULT_PACE,
    seed: int | None = None,
    sampling: SamplingConfig | None = None,
    tell: Callable[[str], None] = warnings.warn,
) -> Generator[tuple[int, Spoken | None], None, None]:
    """Say several texts, up to `size` of them in every step of the model; each is said as it would be alone.

    texts: of each its text and voices, as in `say`; taken when there is room. seed: of each, random unless given.
    tell: is told of words that the model does not know, which are left out.
    Yields the index of a text and what a step adds to its speech, None when all of it is said.
    Raises as `say`, and SessionError for a size below 1.
    """
    check_says(moshi.lm.config)
    batch, coming = batch_for(moshi, size, pace), iter(enumerate(texts))
    running: dict[Utterance, int] = {}
    with ExitStack() as stack:
        while True:
            while len(running) < size and (one := next(coming, None)):
                index, (text, voices) = one
                words = words_of(moshi, text, pace, tell)
                utterance = Utterance(moshi, words, voices, pace, seed, sampling)
                running[stack.enter_context(utterance)] = index
            if not running:
                return
            for utterance, spoken in step(batch, list(running)).items():
                yield running[utterance], spoken
            for utterance in [one for one in running if one.ended]:
                yield running.pop(utterance), None


def batch_for(moshi: Moshi, size: int, pace: Pace = DEFAULT_PACE) -> Batch:
    """Return rows for utterances that are said with this guidance. Raises SessionError for a size below 1."""
    return moshi.batch(size, guidance_of_rows(moshi.lm.config, pace.guidance))


def step(batch: Batch, utterances: Iterable[Utterance]) -> dict[Utterance, Spoken]:
    """Take a step of the model for utterances; those that are not in the result have ended.

    Every utterance that has begun in a batch must be given until it has ended or is closed; see `Batch.generate`.
    """
    ready = {one: session for one in utterances if (session := one.ready(batch))}
    made = batch.generate({session: one.heard for one, session in ready.items()}) if ready else {}
    sounding = [session for one, session in ready.items() if one.sounds(made[session])]
    replies = batch.decode({session: made[session] for session in sounding})()
    heard = {session: or_raise(reply).audio for session, reply in replies.items()}
    return {one: one.spoken(heard.get(session)) for one, session in ready.items()}


def words_of(
    moshi: Moshi, text: Text, pace: Pace = DEFAULT_PACE, tell: Callable[[str], None] = warnings.warn
) -> Iterator[Word]:
    """Yield the words of a text, as `say` takes it, each when it is asked for. tell: as in `new_words`."""
    if isinstance(text, Iterator):
        yield from text
        return
    words = new_words(moshi, pace, tell)
    for turn in [text] if isinstance(text, str) else text:
        yield from words.turn(turn)


def new_words(moshi: Moshi, pace: Pace = DEFAULT_PACE, tell: Callable[[str], None] = warnings.warn) -> Words:
    """Return what makes words of turns for a model.

    tell: is told of words that it does not know, which are left out.
    """
    tokenizer = moshi.tokenizer
    return Words(tokenizer.encode, SPEAKERS in moshi.lm.config.conditioners, pace.between, tokenizer.lacks, tell)


def check_says(config: LmConfig, name: str = "this model") -> LmConfig:
    """Return the config, or raise ConfigError for that of a model that says no text."""
    if not config.tts or config.input_codebooks or not config.depth:
        raise ConfigError(f"{name} does not say texts: use one such as tts-1.6b")
    return config
