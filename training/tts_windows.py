"""Sentences after each other, as `nano-tts` reads and says them: the text goes ahead of its sound.

Before each word stands the token with which the model asks for it, as `moshi_mlx.tasks.script` feeds it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from moshi_mlx.tasks.utterance import DEFAULT_PACE
from training.text import EPAD, PAD
from training.tts_speech import Words
from training.tts_text import tokens_of

DELAY = 0  # frames from a word to its sound: as with Moshi, what it says is what it has just read
MOST = DEFAULT_PACE.most  # steps after the one that asks for a word in which no other is asked for
TELLING = 3  # frames of a word after which what follows is told by what it began with
LEAD, GAP = (2, 6), (2, 5)  # frames of silence before the first sentence and between two, at least and below


@dataclass(frozen=True)
class Window:
    """codes: [9, frames], the text and what is said, not delayed but by DELAY; before it there is none (-1).

    asked: [frames], where the model is to write the text and reads no word; telling: [frames], where a word begins
    to sound, and the text alone tells how.
    """

    codes: np.ndarray
    asked: np.ndarray
    telling: np.ndarray


class Windows:
    """Endless ones. words: what is said."""

    def __init__(self, words: Words) -> None:
        self._words = words

    def window(self, rng: np.random.Generator, frames: int) -> Window:
        """One of so many frames, from the very first."""
        codes = np.full((9, frames), PAD)
        codes[1:] = self._words.silence[:, None]
        codes[1:, :DELAY] = -1
        asked, telling = np.ones(frames, bool), np.zeros(frames, bool)
        end = int(rng.integers(*LEAD))  # of the text of what has been said
        free, latest = 0, frames  # where the next word may be asked for, and where it comes by itself
        sounded = 0  # where all that was asked for has been said
        while end < frames:
            one = self._words.any(rng)
            for sound, tokens in zip(one.parts, tokens_of(one.text), strict=True):
                ask = min(max(end - 1, free), latest)
                free, latest = ask + 1 + len(tokens), ask + 1 + MOST
                _put(codes[0], ask, [EPAD, *tokens])
                asked[ask + 1 : free] = False
                begin = max(ask + 1 + DELAY, sounded)
                _put(codes[1:], begin, sound)
                telling[begin : begin + TELLING] = True
                sounded = begin + sound.shape[1]
                end = sounded - DELAY
            end += int(rng.integers(*GAP))
        return Window(codes, asked, telling)


def _put(row: np.ndarray, at: int, tokens: Sequence[int] | np.ndarray) -> None:
    """Put tokens [..., count] into a row [..., frames], as far as they fit."""
    fitting = np.asarray(tokens)[..., : max(0, row.shape[-1] - at)]
    row[..., at : at + fitting.shape[-1]] = fitting
