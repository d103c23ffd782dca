"""The words that `nano-tts` learns to say, in Nano's voice, on the grid of frames, and sentences made of them.

A word is cut out of a phrase that goes on after it, or ends one; so any sentence can be put together, as samples
and as codes, and each word always sounds alike.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from moshi_mlx.frames import FRAME_SAMPLES, SAMPLE_RATE
from training.augment import trimmed
from training.stt_text import vocabulary
from training.text import word_onsets
from training.tts_text import MARKS, sentence
from training.voices import MODEL_VOICE, speak

TTS_FOLDER = "tts"  # in the work folder of Nano
WORDS, PCM, SILENCE = "words.npz", "pcm.npz", "silence.npy"
GOES_ON = " and"  # after a word that ends nothing
ENDS = (".", "?")
EDGE = 120  # samples over which a word fades in and out


@dataclass(frozen=True)
class Sentence:
    """parts, sounds: of each of its words the codes, [8, frames], and as many frames of samples, [samples]."""

    text: str
    parts: Sequence[np.ndarray]
    sounds: Sequence[np.ndarray]

    @property
    def codes(self) -> np.ndarray:
        """Of all of it, [8, frames]."""
        return np.concatenate(self.parts, 1)

    @property
    def pcm(self) -> np.ndarray:
        """Of all of it, [samples]."""
        return np.concatenate(self.sounds)


@dataclass(frozen=True)
class Words:
    """Every word with every mark that may follow it, "" for none: its codes [8, frames], and samples of as many.

    silence: [8], the code of it.
    """

    codes: Mapping[str, np.ndarray]
    pcm: Mapping[str, np.ndarray]
    silence: np.ndarray

    def sentence(self, text: str) -> Sentence:
        """A text of known words, put together."""
        parts = [_known(word) for word in text.split()]
        return Sentence(text, [self.codes[part] for part in parts], [self.pcm[part] for part in parts])

    def any(self, rng: np.random.Generator) -> Sentence:
        """A sentence drawn as `tts_text.sentence`."""
        return self.sentence(sentence(rng))


def names() -> list[str]:
    """Every word with every mark that may follow it."""
    return [word.lower() + mark for word in vocabulary() for mark in ("", *dict.fromkeys(MARKS.values()))]


def spoken(name: str) -> np.ndarray:
    """How a word with its mark sounds, in whole frames, (samples,) at 24 kHz."""
    if name.endswith(ENDS):
        pcm = speak(MODEL_VOICE, name).pcm
    else:
        phrase = name + GOES_ON
        end = word_onsets(phrase, MODEL_VOICE.name)[1]
        pcm = speak(MODEL_VOICE, phrase).pcm[: round(end * SAMPLE_RATE)]
    pcm = trimmed(pcm, margin=EDGE)
    return np.pad(pcm, (0, -len(pcm) % FRAME_SAMPLES))


def load(folder: Path) -> Words:
    """The words that `tts_codes` has made. Raises FileNotFoundError where there are none."""
    with np.load(folder / WORDS) as codes, np.load(folder / PCM) as pcm:
        return Words(
            {name: codes[name] for name in codes}, {name: pcm[name] for name in pcm}, np.load(folder / SILENCE)
        )


def _known(word: str) -> str:
    mark = MARKS.get(word[-1], "")
    return (word[:-1] if mark else word).lower() + mark
