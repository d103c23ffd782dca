"""What `nano-stt` can write: the words of Nano's conversations and of numbers, and what is said to teach it them.

Words are written without punctuation, and small unless they are names.
"""

from functools import cache

import numpy as np

from training.dialogue import ANSWERS, KNOWN, STOPS, UNKNOWN, UNKNOWN_ANSWER, UNKNOWN_HELD_OUT
from training.word_pieces import word_model, word_tokens

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
NUMBERS = (
    *DIGITS, "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen",
    "nineteen", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety", "hundred",
)  # fmt: skip
_FIRST_NAMES = ("Shakespeare", "Tuesday")  # that only ever begin a sentence
_SAID = (*KNOWN, *dict.fromkeys(ANSWERS.values()), UNKNOWN_ANSWER, *UNKNOWN, *UNKNOWN_HELD_OUT)


def spelled(text: str) -> list[str]:
    """The words of a sentence as they are written."""
    words = text.replace("?", "").replace(".", "").replace(",", "").split()
    return [word if word in names() else word.lower() for word in words]


@cache
def names() -> frozenset[str]:
    """Words that are written with a capital: those that have one within a sentence."""
    inner = (word.strip(".,?") for text in _SAID for word in text.split()[1:])
    return frozenset([*(word for word in inner if word[:1].isupper()), *_FIRST_NAMES])


@cache
def vocabulary() -> tuple[str, ...]:
    """Every word, in order of first use."""
    return tuple(dict.fromkeys([*(word for text in _SAID for word in spelled(text)), *NUMBERS]))


@cache
def tokenizer_model() -> bytes:
    """The sentencepiece model, one piece a word."""
    return word_model(vocabulary(), len(vocabulary()), character_coverage=1.0)


@cache
def token_ids() -> dict[str, int]:
    """A word to its token."""
    return word_tokens(tokenizer_model(), vocabulary())


def digits(rng: np.random.Generator) -> str:
    """Three to seven digits, or now and then other numbers."""
    among = NUMBERS if rng.random() < 0.3 else DIGITS
    return " ".join(rng.choice(among, rng.integers(3, 8)))


def sentence(rng: np.random.Generator) -> str:
    """Something to say: what Nano understands or says, what it does not know, numbers, or words without sense.

    Those without sense make every word follow every other, so that what is heard counts and not what is likely.
    """
    chance = rng.random()
    if chance < 0.25:
        among = KNOWN if rng.random() < 0.7 else (*STOPS, *ANSWERS.values(), UNKNOWN_ANSWER)
        return str(rng.choice(among))
    if chance < 0.33:
        return str(rng.choice((*ANSWERS.values(), UNKNOWN_ANSWER)))
    if chance < 0.58:
        return str(rng.choice(UNKNOWN))
    if chance < 0.68:
        return digits(rng)
    return " ".join(rng.choice(vocabulary(), rng.integers(3, 7)))
