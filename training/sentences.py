"""Sentences that Nano does not know, as many as one likes: its own with another word, and words without sense."""

from difflib import SequenceMatcher
from functools import cache
from pathlib import Path

import numpy as np

from training.dialogue import ANSWERS, KNOWN, UNKNOWN, UNKNOWN_FURTHER, UNKNOWN_HELD_OUT

LIKE = 0.5  # of two words' letters are the same at most, where one takes the place of the other
OTHERS = 0.4  # of the words that take a place are in no other sentence of training
SMALL = frozenset([
    "a", "an", "the", "is", "are", "was", "were", "be", "am", "in", "on", "at", "of", "to", "for", "with",
    "from", "by", "do", "does", "did", "it", "this", "that", "there", "and", "or", "but", "not", "i", "you",
    "he", "she", "we", "they", "us", "me", "my", "your", "his", "her", "their", "our",
])  # fmt: skip
"""Words by which no question becomes another one: "What is a capital of France?" is to be answered."""
MORE = tuple(Path(__file__).with_name("more_words.txt").read_text().split())
"""Common words, most of which are in no sentence of training: whoever knows only those of its questions hears one
of them in everything."""


def strange(rng: np.random.Generator) -> str:
    """A sentence that Nano does not know, nor one that means the same."""
    while True:
        if rng.random() < 0.6:
            said = str(rng.choice(list(ANSWERS))).split()
            places = [index for index, word in enumerate(said) if bare(word) not in SMALL]
            for _ in range(int(rng.integers(1, 3))):
                place = int(rng.choice(places))
                said[place] = _other(rng, said[place])
        else:
            said = [_any(rng) for _ in range(int(rng.integers(2, 8)))]
        if bare(" ".join(said)) not in _known():
            return " ".join(said)


def _other(rng: np.random.Generator, word: str) -> str:
    """A word to take the place of another one, that nobody takes for it."""
    while True:
        other = _any(rng)
        if other not in SMALL and SequenceMatcher(None, bare(word), other).ratio() <= LIKE:
            return other


def _any(rng: np.random.Generator) -> str:
    return str(rng.choice(others() if rng.random() < OTHERS else words()))


@cache
def words() -> tuple[str, ...]:
    """Every word of the sentences that training has, as it is said."""
    return tuple(dict.fromkeys(bare(word) for text in (*KNOWN, *UNKNOWN) for word in text.split()))


@cache
def others() -> tuple[str, ...]:
    """MORE, without what only the sentences say that are kept out of training."""
    kept = {bare(word) for text in (*UNKNOWN_HELD_OUT, *UNKNOWN_FURTHER) for word in text.split()} - {*words()}
    return tuple(dict.fromkeys(bare(word) for word in MORE if bare(word) not in kept))


@cache
def _known() -> frozenset[str]:
    return frozenset(bare(text) for text in KNOWN)


def bare(text: str) -> str:
    """A text as it is said: small letters, no marks."""
    return "".join(letter for letter in text.lower() if letter.isalpha() or letter in " '")
