"""Nano's words: a sentencepiece model whose pieces are whole words, and the frame in which each word begins."""

import difflib
from functools import cache

from training.dialogue import ANSWERS, UNKNOWN_ANSWER
from training.voices import MODEL_VOICE, flite_segments
from training.word_pieces import SPECIAL, word_model, word_tokens

EPAD, PAD = 0, 3  # Moshi's ids: the frame before a word, and every other frame without one


def words() -> list[str]:
    """Every word of every answer, with its punctuation, in order of first use."""
    return list(dict.fromkeys(word for text in (*ANSWERS.values(), UNKNOWN_ANSWER) for word in text.split()))


def plain(text: str) -> list[str]:
    """The words of a text as recognisers spell them: small, without punctuation."""
    return text.lower().translate(str.maketrans("", "", ".,?")).split()


@cache
def tokenizer_model() -> bytes:
    """The sentencepiece model, one piece a word."""
    return word_model([*ANSWERS.values(), UNKNOWN_ANSWER], len(words()))


@cache
def token_ids() -> dict[str, int]:
    """A word to its token."""
    return word_tokens(tokenizer_model(), words())


@cache
def text_card() -> int:
    """The size of the text vocabulary."""
    return SPECIAL + len(words())


def word_frames(text: str, name: str = MODEL_VOICE.name) -> list[tuple[int, str]]:
    """The frame, counted from the answer's first sound, in which each word begins; never two in one.

    name: of one of flite's voices.
    """
    onsets = word_onsets(text, name)
    frames: list[tuple[int, str]] = []
    for onset, word in zip(onsets, text.split(), strict=True):
        frame = int((onset - onsets[0]) * 12.5)
        if frames:
            frame = max(frame, frames[-1][0] + 1)
        frames.append((frame, word))
    return frames


def word_onsets(text: str, name: str, speed: float = 1.0) -> list[float]:
    """The second in which each word of `text` begins when one of flite's voices says it.

    flite says when each phone of the sentence ends; the words' own phones, matched to them, say whose they are.
    Raises KeyError if none of a word's phones are found.
    """
    ends = flite_segments(text, name, speed)
    spoken = [phone for phone, _ in ends]
    starts = [0.0, *(end for _, end in ends)]
    expected, owner = [], []
    for index, word in enumerate(text.split()):
        own = _word_phones(word.strip(".,?"))
        expected += own
        owner += [index] * len(own)
    onset: dict[int, float] = {}
    matcher = difflib.SequenceMatcher(None, expected, spoken, autojunk=False)
    for kind, one, one_end, other, other_end in matcher.get_opcodes():
        if kind in ("equal", "replace"):  # a word said alone sounds a little different: as many phones, other ones
            for step in range(one_end - one):
                place = other + step * (other_end - other) // (one_end - one)
                onset.setdefault(owner[one + step], starts[place])
    return [onset[index] for index in range(len(text.split()))]


@cache
def _word_phones(word: str) -> tuple[str, ...]:
    return tuple(phone for phone, _ in flite_segments(word, MODEL_VOICE.name) if phone != "pau")
