"""What `nano-tts` can say: every sentence of the words that `nano-stt` writes, and what it learns that from."""

from functools import cache
from string import ascii_uppercase

import numpy as np

from training import stt_text
from training.word_pieces import reading_model, word_tokens

MARKS = {".": ".", ",": ",", "?": "?", "!": ".", ";": ","}
"""Punctuation, and how it is read."""
PLAIN_SHARE = 0.35  # of the sentences are those that `nano-stt` learns from, and the others words without sense
COMMA_SHARE, QUESTION_SHARE, BARE_SHARE = 0.08, 0.2, 0.1
"""After a word without sense there is a comma, such a sentence is a question, or has nothing at its end."""


@cache
def vocabulary() -> tuple[str, ...]:
    """Every token: words, small, and punctuation."""
    return tuple(dict.fromkeys([*(word.lower() for word in stt_text.vocabulary()), *MARKS.values()]))


@cache
def tokenizer_model() -> bytes:
    """The sentencepiece model: a piece for each of the vocabulary, in any case, punctuation apart from words."""
    rules = {
        **{letter: letter.lower() for letter in ascii_uppercase},
        **{mark: f" {MARKS[mark]}" for mark in MARKS},
    }
    return reading_model(vocabulary(), rules)


@cache
def token_ids() -> dict[str, int]:
    """A word or mark to its token."""
    return word_tokens(tokenizer_model(), vocabulary())


def sentence(rng: np.random.Generator) -> str:
    """Something to say."""
    if rng.random() < PLAIN_SHARE:
        return stt_text.sentence(rng)
    words = [str(word) for word in rng.choice(stt_text.vocabulary(), rng.integers(2, 8))]
    inner = [word + "," * int(rng.random() < COMMA_SHARE) for word in words[:-1]]
    chance = rng.random()
    end = "" if chance < BARE_SHARE else "?" if chance < BARE_SHARE + QUESTION_SHARE else "."
    text = " ".join([*inner, words[-1] + end])
    return text[:1].upper() + text[1:]


def tokens_of(text: str) -> list[list[int]]:
    """The tokens of each word of a text, with the mark after it, as the package's tokenizer reads it."""
    return [_pieces().encode(word) for word in text.split()]


@cache
def _pieces():
    import sentencepiece

    return sentencepiece.SentencePieceProcessor(model_proto=tokenizer_model())
