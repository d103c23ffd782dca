"""A text on its way into a text-to-speech model: words to tokens, and what the model reads at each step.

The model says when it is ready for a word: then the word's tokens are fed one a step, and with them, in a second
text stream, those of a word further on. Between words it pads, at most so many steps and at least so many.
Source: moshi/models/tts.py `script_to_entries`, `StateMachine`.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from moshi_mlx.frames import FRAME_RATE

NO_TOKEN = -1  # embeds to zero
SPEAKERS = (1, 2)  # tokens that begin a turn: sentencepiece's <s> and </s>
_ENDS, _QUOTES = (".", "!", "?", "…", ";", "。", "！", "？"), "\"'”’»)"
_REPLACED = str.maketrans({"’": "'", ":": " ", "(": None, ")": None})
_GAP = re.compile(r'<break\s+time="([0-9]+(?:\.[0-9]*)?)s"\s*/?>|\s+')


@dataclass(frozen=True)
class Word:
    """A word to be said, or a pause, which has no tokens.

    padding: steps after it, counted from its first token, in which no other word may begin. speaker: the token of
    who says it, for models that know such tokens.
    """

    text: str
    tokens: tuple[int, ...]
    padding: int = 0
    speaker: int | None = None

    @property
    def ends_sentence(self) -> bool:
        """Whether a sentence ends with it."""
        return self.text.rstrip(_QUOTES).endswith(_ENDS)

    def with_speaker(self) -> Word:
        """Return it as the first word of its speaker."""
        if self.speaker is None or self.tokens[:1] == (self.speaker,):
            return self
        return replace(self, tokens=(self.speaker, *self.tokens), padding=self.padding + bool(self.padding))


class Parts:
    """Words cut at the ends of sentences.

    full: whether a part may end, asked after each word that ends a sentence.
    """

    def __init__(self, words: Iterator[Word], full: Callable[[], bool]) -> None:
        self._words, self._full = words, full
        self._next: Word | None = None

    @property
    def more(self) -> bool:
        """Whether there is another part. Waits for its first word."""
        self._next = self._next or next(self._words, None)
        return self._next is not None

    def part(self) -> Iterator[Word]:
        """Yield the words of the next part; each is taken only when it is asked for."""
        first, ended = True, False
        while not (ended and self._full()) and self.more and self._next:
            word, self._next = self._next, None
            if word.tokens:
                ended = word.ends_sentence
                word, first = (word.with_speaker() if first else word), False
            yield word


class Words:
    """Turns of a conversation into words.

    encode: a word -> its tokens. turns_are_marked: whether turns begin with the token of their speaker, which
    models know that are told who speaks. between: steps of padding between words, at least. lacks: whether a word
    is unknown to the model; it is left out, and `tell` is told so, once.
    """

    def __init__(
        self,
        encode: Callable[[str], list[int]],
        turns_are_marked: bool,
        between: int = 0,
        lacks: Callable[[str], bool] = lambda _: False,
        tell: Callable[[str], None] = warnings.warn,
    ) -> None:
        self._encode, self._marked, self._between = encode, turns_are_marked, between
        self._lacks, self._tell = lacks, tell
        self._left_out: set[str] = set()
        self._speaker: int | None = None  # whose turn it was
        self._turn = -1
        self._begins = True

    def turn(self, text: str) -> Iterator[Word]:
        """Yield the words of the next turn; the first is the main speaker's, the second the other's, and so on."""
        self._turn += 1
        self._begins = True
        yield from self.more(text)

    def more(self, text: str) -> Iterator[Word]:
        """Yield further words of the same turn."""
        text = text.translate(_REPLACED)
        start = 0
        for gap in _GAP.finditer(text):
            if gap.start() > start:
                yield from self._word(text[start : gap.start()])
            if gap[1]:
                yield Word("", (), round(float(gap[1]) * FRAME_RATE))
            start = gap.end()
        if start < len(text):
            yield from self._word(text[start:])

    def _word(self, text: str) -> Iterator[Word]:
        if self._lacks(text):
            if text not in self._left_out:
                self._tell(f"{text!r} is left out: this model does not know the word")
            self._left_out.add(text)
            return
        tokens = self._encode(text)
        speaker = max(self._turn, 0) % len(SPEAKERS)
        if self._begins and self._marked and speaker != self._speaker:
            self._speaker = speaker
            tokens = [SPEAKERS[speaker], *tokens]
        self._begins = False
        padding = max(0, self._between + len(tokens) - 1) if self._between > 0 else 0
        yield Word(text, tuple(tokens), padding, SPEAKERS[speaker] if self._marked else None)


class Reading(NamedTuple):
    """How far a text has been read."""

    next: int  # the word that comes next
    allowed: int  # steps of padding that may still come before it
    forced: int  # and those that must
    main: tuple[int, ...] = ()  # tokens that are still to be fed
    second: tuple[int, ...] = ()  # in the second stream
    ended: bool = False  # the model has asked for a word when there was none


class Feeder:
    """What a model reads of a text, step by step.

    card: the model's text tokens and the initial one. ahead: words by which its second text stream is ahead, 0 for
    none. most, first: steps of padding between two words at most, and before the first. word, pad: the tokens with
    which the model says that it is ready for a word, and that it is not.
    """

    def __init__(
        self, card: int, ahead: int = 0, *, most: int = 8, first: int = 2, word: int = 0, pad: int = 3
    ) -> None:
        self.words: list[Word] = []
        self.complete = False  # no more words will come
        self.said: list[tuple[str, int]] = []  # words, and the steps at which they began
        self.ended_at: int | None = None  # the step at which the model asked for a word when there was none
        self._card, self._ahead, self._most, self._word, self._pad = card, ahead, most, word, pad
        self._reading = Reading(0, first, first)

    @property
    def hungry(self) -> bool:
        """Whether the next step may need a word that has not come yet."""
        return self._hungry(self._reading)

    def known(self, most: int) -> int:
        """Return how many of the next steps, up to `most`, read the same whatever the model writes at them."""
        reading, count = self._reading, 0
        while count < most and not self._hungry(reading):
            asked, other = self._advance(reading, True), self._advance(reading, False)
            if asked != other:
                break
            reading, count = asked[0], count + 1
        return count

    def choices(self) -> tuple[int, int]:
        """Return what the model will read if it writes `word` at the next step, and if anything else."""
        return self._advance(self._reading, True)[1], self._advance(self._reading, False)[1]

    def step(self, step: int, wrote: int) -> int:
        """Move on by a step, at which the model wrote a token. Returns what it reads in place of that."""
        before = self._reading
        self._reading, read = self._advance(before, wrote == self._word)
        for word in self.words[before.next : self._reading.next]:
            if word.tokens:
                self.said.append((word.text, step))
        if self._reading.ended and not before.ended:
            self.ended_at = step
        return read

    def _hungry(self, reading: Reading) -> bool:
        # The first words are wanted at once: what comes before them and with them is read in one pass.
        if self.complete or (reading.next and (reading.main or reading.forced)):
            return False
        return not self._spoken(reading.next, self._ahead + 1)

    def _advance(self, reading: Reading, asks: bool) -> tuple[Reading, int]:
        """Return the state after a step, and what is read at it. asks: the model is ready for a word."""
        next, allowed, forced, main, second, ended = reading
        if main or forced:
            asks = False
        elif not allowed:
            asks = True
        if asks and next < len(self.words):
            word = self.words[next]
            next, forced = next + 1, word.padding
            asks = bool(word.tokens)  # a pause is padding
            if asks:
                main, allowed = word.tokens, self._most
                second += self._tokens_ahead(next)
        elif asks:
            asks, ended = bool(self._ahead) and not ended, True
        read = self._word
        if not asks:
            allowed, forced = max(allowed - 1, 0), max(forced - 1, 0)
            read, main = (main[0], main[1:]) if main else (self._pad, main)
        if self._ahead:
            other = NO_TOKEN
            if read == self._word:  # goes into the second stream, so that the word itself begins a step earlier
                other = read
                read, main = (main[0], main[1:]) if main else (self._pad, main)
            elif second:
                other, second = second[0], second[1:]
            read += (other + 1) * self._card
        return Reading(next, allowed, forced, main, second, ended), read

    def _tokens_ahead(self, next: int) -> tuple[int, ...]:
        """Return the tokens of the word that the second stream begins when the word before `next` begins."""
        word = self._spoken(next, self._ahead) if self._ahead else None
        return word.tokens if word else ()

    def _spoken(self, next: int, count: int) -> Word | None:
        """Return the word, pauses not counted, that is the `count`th from `next` on; None if it is not there."""
        while next < len(self.words):
            count -= bool(self.words[next].tokens)
            if not count:
                return self.words[next]
            next += 1
        return None
