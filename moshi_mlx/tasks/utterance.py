"""One text being said: its script in a row of a batch, and the audio and words that come of it.

Audio follows the text by a delay that the model was trained with; words have the times at which they begin.
Source: moshi/models/tts.py `TTSModel.generate`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from moshi_mlx.errors import ConfigError
from moshi_mlx.frames import FRAME_RATE, FRAME_SECONDS
from moshi_mlx.models.config import LmConfig
from moshi_mlx.runtime.batch import Batch
from moshi_mlx.runtime.moshi import Moshi
from moshi_mlx.runtime.reply import Generated
from moshi_mlx.runtime.session import Session
from moshi_mlx.sampling_config import SamplingConfig, new_seed
from moshi_mlx.tasks.script import NO_TOKEN, Feeder, Parts, Word
from moshi_mlx.tasks.voice import voiced

TEMPERATURE = 0.6
NO_AUDIO = np.zeros(0, np.float32)


@dataclass(frozen=True)
class Pace:
    """How a text is said, in steps of 80 ms.

    between: padding after each word, at least. most: padding in a row, at most. first: padding before the text.
    last: frames after the text. guidance: how closely voice and text are kept to, 1 for none.
    bonus: added to the logit of padding, -10 to 10; above 0 speech is slower, below faster (Kyutai: -2 to 2).
    renewed: whether a long text is said in parts where a voice is a recording, each part after the recording.
    """

    between: int = 1
    most: int = 8
    first: int = 2
    last: int = 4
    guidance: float = 2.0
    bonus: float = 0.0
    renewed: bool = True

    def __post_init__(self) -> None:
        if not -10 <= self.bonus <= 10:  # also refuses NaN
            raise ConfigError(f"a padding bonus of {self.bonus}: between -10 and 10 expected")


DEFAULT_PACE = Pace()


class Spoken(NamedTuple):
    """What a step of the model adds to the speech.

    audio: (samples,) float32 at 24 kHz, a frame of 1920 or, before the speech begins, none. words: those that are
    known by now and were not told before, (text, seconds from the first frame); each is known before it is heard.
    """

    audio: np.ndarray
    words: list[tuple[str, float]]


class TextScript:
    """A text, and what a voice said before it, for a session; see `runtime.step.Script`.

    prefix: (dep_q, T) int, the codes of a voice; T = 0 for none. padding_bonus: as in `Script`.
    """

    def __init__(self, config: LmConfig, feeder: Feeder, prefix: np.ndarray, padding_bonus: float = 0.0) -> None:
        assert config.tts, "a text-to-speech model"
        self.feeder, self.padding_bonus = feeder, padding_bonus
        self.delay = int(config.tts.delay * FRAME_RATE)  # frames; as PyTorch cuts it
        self.prefix, self.prefix_frames = prefix, prefix.shape[1]
        self._delays = np.array(config.delays)
        self._step = 0

    @property
    def known(self) -> int:
        """How many steps, from the first on, read what they do whatever the model makes of them."""
        return self.prefix_frames + self.feeder.known(self.delay)

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

    def contrary(self, step: int, tokens: np.ndarray) -> np.ndarray:
        """As in `Script`: neither the text nor the voice. Source: moshi/models/lm.py `LMGen._step`."""
        begun = step > self._delays
        hidden = begun & (np.arange(len(tokens)) == 0)
        if self.prefix_frames:
            hidden |= begun & (step <= self._delays + self.prefix_frames + self.delay)
        return np.where(hidden, NO_TOKEN, tokens)


class Utterance:
    """A text on its way through a row of a batch, a step at a time; a context manager.

    words: as `Words` makes them, taken only when they are needed. voices, pace, seed, sampling: as in `say`.
    The whole text is one session, whose window of the latest frames moves on, as with PyTorch. Only where a voice
    is a recording, which that window would lose, a new session begins with it after a sentence that ends in the
    window's second half. Raises ConfigError for voices or a pace that the model cannot have.

    >>> with Utterance(moshi, words_of(moshi, ["Good morning!"]), [voice]) as utterance:
    ...     batch = batch_for(moshi, 1)
    ...     while session := utterance.ready(batch):
    ...         spoken = utterance.take(session.generate(utterance.heard))
    """

    heard = np.zeros(0, np.int32)  # codes that a model hears which says texts: none

    def __init__(
        self,
        moshi: Moshi,
        words: Iterator[Word],
        voices: Sequence[np.ndarray] = (),
        pace: Pace = DEFAULT_PACE,
        seed: int | None = None,
        sampling: SamplingConfig | None = None,
    ) -> None:
        self._config, self._pace = moshi.lm.config, pace
        self._conditions, self._prefix = voiced(moshi, voices, pace.guidance)
        self._parts = Parts(words, self._is_half_full)
        self._seed = new_seed() if seed is None else seed
        self._sampling = sampling or tempered(moshi.sampling)
        self._playing: _Part | None = None
        self._frames = 0  # of audio
        self.ended = False

    def ready(self, batch: Batch) -> Session | None:
        """Return the session that is to be stepped next, in a row of its own; None when all is said, or closed.

        Waits for words that the next step may need. Raises SessionError where all rows are taken.
        """
        if self._playing and self._playing.over:
            self._playing.session.close()
            self._playing = None
        if self.ended or not (self._playing or self._parts.more):
            self.close()
            return None
        if not self._playing:
            session = batch.join(self._seed, self._sampling, self._conditions)
            script = TextScript(self._config, new_feeder(self._config, self._pace), self._prefix, self._pace.bonus)
            self._playing = _Part(batch, session, script, self._parts.part(), self._pace, self._frames)
        self._playing.prepare()
        return self._playing.session

    def take(self, generated: Generated) -> Spoken:
        """Return what came of a step of the session that `ready` gave."""
        assert self._playing, "after `ready`"
        return self.spoken(self._playing.session.decode(generated).audio if self.sounds(generated) else None)

    def sounds(self, generated: Generated) -> bool:
        """Whether what a step gave is to be decoded, for `spoken`: the two parts of `take`."""
        assert self._playing, "after `ready`"
        return generated.codes is not None and self._playing.sounds

    def spoken(self, audio: np.ndarray | None) -> Spoken:
        """Return what came of the step. audio: (1920,) float32 where it sounds."""
        assert self._playing, "after `ready`"
        spoken = self._playing.spoken(audio)
        self._frames += bool(len(spoken.audio))
        return spoken

    def close(self) -> None:
        """Say no more, and free the row; calling it twice is fine."""
        self.ended = True
        if self._playing:
            self._playing.session.close()
            self._playing = None

    def __enter__(self) -> Utterance:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _is_half_full(self) -> bool:
        """Whether a voice's recording is about to leave the window."""
        if not self._prefix.size or not self._pace.renewed or not self._playing:
            return False
        return self._playing.session.delays.step >= self._config.transformer.context // 2


class _Part:
    """A part of a text in a session of its own. before: frames of audio of the parts before it."""

    def __init__(
        self, batch: Batch, session: Session, script: TextScript, words: Iterator[Word], pace: Pace, before: int
    ) -> None:
        self.session, self._script = session, script
        self._words, self._pace, self._before = words, pace, before
        self._told = 0  # words
        session.script = script
        supply(script.feeder, words)
        self._live_through_what_is_known(batch)

    @property
    def over(self) -> bool:
        """Whether the text has been said, with the frames that come after it."""
        end = self._script.feeder.ended_at
        return end is not None and self.session.delays.step >= end + self._script.delay + self._pace.last

    def prepare(self) -> None:
        """Get the words that the next step may need."""
        supply(self._script.feeder, self._words)

    @property
    def sounds(self) -> bool:
        """Whether there is audio at this step: a voice's own words too, from which the codec goes on."""
        return self._frames_out > self._script.delay

    def spoken(self, audio: np.ndarray | None) -> Spoken:
        """As in `Utterance`."""
        script, feeder = self._script, self._script.feeder
        if audio is None or self._frames_out <= script.delay + script.prefix_frames:
            audio = NO_AUDIO
        said, self._told = feeder.said[self._told :], len(feeder.said)
        begin = self._before - script.prefix_frames
        return Spoken(audio, [(word, (begin + at) * FRAME_SECONDS) for word, at in said])

    @property
    def _frames_out(self) -> int:
        """Frames that have come out of the delays, as they fill or later."""
        return max(0, self.session.delays.step - max(self.session.batch.moshi.lm.config.delays))

    def _live_through_what_is_known(self, batch: Batch) -> None:
        """Take the first steps in one pass: a voice's recording, and text that the model has no say in."""
        script, config = self._script, batch.moshi.lm.config
        if count := script.known:  # what is given here is replaced in `take`
            nothing = np.full((count, 1 + config.dep_q), NO_TOKEN, np.int32)
            batch.prefill(self.session, nothing[:, 0], nothing[:, 1:], np.zeros((count, 0), np.int32))
        for codes in script.prefix.T[: max(0, self._frames_out - script.delay)]:
            self.session.decode(Generated(codes, "", NO_TOKEN, 0.0))  # for the codec to go on from


def tempered(sampling: SamplingConfig, **asked: Any) -> SamplingConfig:
    """Return how tokens are drawn as is usual for this kind of model, but for what was asked for."""
    return replace(sampling, **{"text_temperature": TEMPERATURE, "audio_temperature": TEMPERATURE, **asked})


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
