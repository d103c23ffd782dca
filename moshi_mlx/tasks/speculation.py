"""The text of known audio, decoded several frames at a time: guessed, verified in one pass, kept as far as right.

A model that only listens reads at each frame the codes of the audio, which a recording gives in advance, and the
text token before, which is mostly padding. So a drafter guesses the text of the next frames, one pass of the
temporal transformer verifies all of them, and what follows the first wrong guess is given back. The tokens are
those of stepping, whatever the drafter guesses; a bad guess costs time only.
Source: speculative decoding, Leviathan et al. 2023, whose greedy case this is.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import mlx.core as mx
import numpy as np

from moshi_mlx.errors import ConfigError
from moshi_mlx.models.layers import compiled
from moshi_mlx.models.lm import Lm, LmState

CONTEXTS = 50_000  # that a drafter counts: some megabytes, and more than a day of talk has
AHEAD = 16  # positions of a pass: a second and a quarter; twice as many would save few passes more


@dataclass(frozen=True)
class Heard:
    """What the model made of one frame: its text token, and voice activity as in `Reply`."""

    text_id: int
    vad: np.ndarray | None


class Drafter(Protocol):
    """Guesses the text that comes next."""

    def observe(self, token: int, /) -> None:
        """Take a token that has come."""
        ...

    def draft(self, count: int, /) -> list[int]:
        """Guess the next `count` tokens."""
        ...


class PaddingDrafter:
    """Guesses padding: silence and the rest of every word."""

    def __init__(self, padding: int) -> None:
        self._padding = padding

    def observe(self, token: int) -> None:
        """Learn nothing."""

    def draft(self, count: int) -> list[int]:
        """Guess the next `count` tokens."""
        return [self._padding] * count


class TextDrafter:
    """Guesses what followed before: how a word went on, which word came after a word, how long words are.

    padding, boundary: the tokens of nothing and of "a word begins". It counts what follows what, as it comes.
    """

    def __init__(self, padding: int, boundary: int) -> None:
        self._padding, self._boundary = padding, boundary
        self._counts: dict[tuple[object, ...], Counter[int]] = {}
        self._pieces: tuple[int, ...] = ()  # of the word at hand
        self._before = (-1, -1)  # the last pieces, of whatever word
        self._waited = 0  # tokens of padding since the last piece
        self._begun = False  # a boundary came, and no piece since

    def observe(self, token: int) -> None:
        """Count a token that has come, and what it came after."""
        for context in self._contexts():
            if context in self._counts or len(self._counts) < CONTEXTS:
                self._counts.setdefault(context, Counter())[token] += 1
        self._advance(token)

    def draft(self, count: int) -> list[int]:
        """Guess the next `count` tokens."""
        kept = self._pieces, self._before, self._waited, self._begun
        guesses = []
        for _ in range(count):
            guesses.append(self._likeliest())
            self._advance(guesses[-1])
        self._pieces, self._before, self._waited, self._begun = kept
        return guesses

    def _likeliest(self) -> int:
        for context in self._contexts():
            if counts := self._counts.get(context):
                return max(counts, key=counts.__getitem__)
        return self._padding

    def _contexts(self) -> list[tuple[object, ...]]:
        """What the next token may depend on, the narrowest first."""
        if self._begun:
            return [("word", *self._before), ("word", self._before[-1]), ("word",)]
        if self._waited:
            return [("padding", min(self._waited, 25), len(self._pieces))]
        return [("piece", *self._pieces)] if self._pieces else []

    def _advance(self, token: int) -> None:
        if token == self._padding:
            self._waited += 1
        elif token == self._boundary:
            self._begun = True
        else:
            self._pieces = (token,) if self._begun or self._waited else (*self._pieces, token)
            self._before = (self._before[-1], token)
            self._waited, self._begun = 0, False


def accepted(drafts: Sequence[int], texts: Sequence[int]) -> int:
    """Return how many tokens of a pass are right: those up to the first that was guessed wrong, itself included.

    drafts: guesses of all of `texts` but the last. texts: what the pass gave at each position, were all right.
    """
    for index, draft in enumerate(drafts[: len(texts) - 1]):
        if draft != texts[index]:
            return index + 1
    return len(texts)


def count_passes(texts: Sequence[int], drafter: Drafter, ahead: int) -> int:
    """Return the passes that decoding takes a model which says this, token by token."""
    passes = start = 0
    while start < len(texts):
        right = accepted(drafter.draft(ahead - 1), texts[start : start + ahead])
        for token in texts[start : start + right]:
            drafter.observe(token)
        start += right
        passes += 1
    return passes


class SpeculativeDecoder:
    """Decodes one recording after the other, exactly as greedy stepping would.

    ahead: positions of a pass; 1 is stepping. drafter: guesses; a `TextDrafter` unless given.
    `passes` and `frames` count what was done. Raises ConfigError for a model that speaks or has delays: what it
    reads at a frame is not known in advance.
    """

    def __init__(
        self, lm: Lm, ahead: int = AHEAD, drafter: Drafter | None = None, kv_bits: int | None = None
    ) -> None:
        config = lm.config
        if config.dep_q or any(config.delays):
            raise ConfigError(
                f"a model with dep_q {config.dep_q} and delays up to {max(config.delays)} cannot read ahead: "
                "only speech-to-text models (dep_q 0, no delays) can"
            )
        self.config, self.ahead = config, ahead
        self._lm, self._kv_bits = lm, kv_bits
        self.drafter = drafter or TextDrafter(config.text_padding_id, config.text_end_padding_id)
        self._head = compiled(self._make_head)
        self.passes = self.frames = 0

    def decode(self, codes: Iterable[np.ndarray]) -> Iterator[Heard]:
        """Yield what is heard at each frame, after the step before the first one, which reads initial tokens.

        codes: (n_q,) int32 of every frame; at most `ahead` of them are taken in advance.
        """
        reading, coming = self.begin(), iter(codes)
        while True:
            for frame in islice(coming, self.ahead - reading.waiting):
                reading.add(frame)
            if not reading.waiting:
                return
            yield from reading.advance()

    def begin(self) -> Reading:
        """Begin a recording whose frames come when they come."""
        return Reading(self)

    def run(self, tokens: np.ndarray, state: LmState, known: int) -> list[np.ndarray]:
        """Run one pass and give back what was guessed wrong; for `Reading`.

        tokens: (1 + n_q, ahead) int32, of which the first `known` positions count. Returns the right text tokens,
        (T,) int32, and where the model has extra heads, voice activity, (T, heads, classes) float32.
        """
        hidden = self._lm.temporal(mx.array(tokens[None]), state, self._lm.condition())
        made = self._head(hidden)
        mx.eval(made, state.arrays())
        arrays = [np.array(array) for array in made]
        right = accepted(tokens[0, 1:].tolist(), arrays[0][:known].tolist())
        state.temporal.give_back(self.ahead - right)
        self.passes += 1
        self.frames += right
        return [array[:right] for array in arrays]

    def _make_head(self, hidden: mx.array) -> list[mx.array]:
        """hidden: (1, T, dim). Returns text tokens (T,), and (T, heads, classes) where there are extra heads."""
        texts = mx.argmax(self._lm.text_linear(hidden)[0], axis=-1).astype(mx.int32)
        return [texts, self._lm.vad(hidden)[0]] if self._lm.config.extra_heads else [texts]

    def new_state(self) -> LmState:
        """Return the state of a new recording."""
        return self._lm.new_state(kv_bits=self._kv_bits, step=self.ahead)


class Reading:
    """What a `SpeculativeDecoder` knows of one recording. Begins with the step that reads initial tokens."""

    def __init__(self, decoder: SpeculativeDecoder) -> None:
        self._decoder, self._config = decoder, decoder.config
        self._state = decoder.new_state()
        self._columns = deque([np.full(self._config.n_q, self._config.card, np.int32)])  # of positions to come
        self._last = self._config.text_card

    @property
    def waiting(self) -> int:
        """Positions that can be read."""
        return len(self._columns)

    def add(self, codes: np.ndarray) -> None:
        """Take the codes of the next frame, (n_q,) int32."""
        self._columns.append(codes)

    def advance(self) -> list[Heard]:
        """Read what waits, in one pass of at most `ahead` positions; return what is heard at one or more."""
        ahead, drafter = self._decoder.ahead, self._decoder.drafter
        # Always whole passes: another size would be traced anew. What is too much is given back.
        tokens = np.full((1 + self._config.n_q, ahead), -1, np.int32)
        tokens[0] = [self._last, *drafter.draft(ahead - 1)]
        known = min(self.waiting, ahead)
        tokens[1:, :known] = np.stack(list(islice(self._columns, known)), axis=1)
        texts, *vad = self._decoder.run(tokens, self._state, known)
        heard = []
        for index, text in enumerate(texts.tolist()):
            self._columns.popleft()
            drafter.observe(text)
            self._last = text
            heard.append(Heard(text, vad[0][index] if vad else None))
        return heard
