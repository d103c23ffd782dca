"""Sentences that Nano does not know, as many as one likes: its own with another word, and words without sense."""

from functools import cache

import numpy as np

from training.dialogue import ANSWERS, KNOWN, UNKNOWN


def strange(rng: np.random.Generator) -> str:
    """A sentence of words that are said elsewhere in training, and not one that Nano knows."""
    while True:
        if rng.random() < 0.6:
            said = str(rng.choice(list(ANSWERS))).split()
            for _ in range(int(rng.integers(1, 3))):
                said[int(rng.integers(len(said)))] = str(rng.choice(words()))
        else:
            said = rng.choice(words(), rng.integers(2, 8)).tolist()
        if _bare(" ".join(said)) not in _known():
            return " ".join(said)


@cache
def words() -> tuple[str, ...]:
    """Every word of the sentences that training has, as it is said."""
    return tuple(dict.fromkeys(_bare(word) for text in (*KNOWN, *UNKNOWN) for word in text.split()))


@cache
def _known() -> frozenset[str]:
    return frozenset(_bare(text) for text in KNOWN)


def _bare(text: str) -> str:
    return "".join(letter for letter in text.lower() if letter.isalpha() or letter in " '")
