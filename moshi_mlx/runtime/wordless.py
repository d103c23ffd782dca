"""Conversations in which only the language model is of interest: no codec, no words.

For measuring and comparing models whose weights nobody trained, or whose codes are known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from moshi_mlx.codec.base import Codec, StreamsApart
from moshi_mlx.frames import silence
from moshi_mlx.models.conditioner_config import Condition
from moshi_mlx.models.lm import Lm
from moshi_mlx.runtime.moshi import Moshi
from moshi_mlx.runtime.session import Tokenizer
from moshi_mlx.runtime.step import FrameStep
from moshi_mlx.sampling_config import SamplingConfig


class NoCodec:
    """A codec that gives random codes for any audio and silence for any codes."""

    name = "none"
    threaded = False

    def __init__(self, codebooks: int, card: int) -> None:
        self.codebooks = codebooks
        self._card = card

    def stream(self) -> NoCodecStream:
        """A stream whose codes are the same every time."""
        return NoCodecStream(self.codebooks, self._card)

    def streams(self) -> StreamsApart:
        """Streams that have nothing to share."""
        return StreamsApart(self)


class NoCodecStream:
    """The stream of one conversation; it remembers nothing."""

    def __init__(self, codebooks: int, card: int) -> None:
        self._codes = np.random.RandomState(0).randint(0, card, (64, codebooks)).astype(np.int32)
        self._next = 0
        self._silence = silence()

    def encode(self, frame: np.ndarray) -> np.ndarray:
        """The next codes, (K,) int32, whatever the frame."""
        self._next += 1
        return self._codes[self._next % len(self._codes)]

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Silence, (1920,) float32."""
        return self._silence

    def reset(self) -> None:
        """Do nothing, as all below: there is nothing to forget."""

    reset_encoder = reset_decoder = close = reset


class NoWords:
    """A tokenizer and its own stream: every token is silent."""

    def stream(self) -> NoWords:
        """Itself: it remembers nothing."""
        return self

    def encode(self, text: str, /) -> list[int]:
        """No tokens, whatever the text."""
        return []

    def lacks(self, word: str, /) -> bool:
        """It lacks none, whatever the word."""
        return False

    def push(self, id: int, /) -> str:
        """No text, whatever the token."""
        return ""


@dataclass
class Wordless:
    """A model whose weights may still change: nothing of them is fused, as `Moshi` would."""

    lm: Lm
    codec: Codec
    step: FrameStep
    sampling: SamplingConfig
    tokenizer: Tokenizer = field(default_factory=NoWords)
    kv_bits: int | None = None
    conditions: Mapping[str, Condition] = field(default_factory=dict)


def unfused(lm: Lm) -> Wordless:
    """What conversations with a language model need, and no more; leaves the model as it is."""
    return Wordless(lm, NoCodec(lm.config.codebooks, lm.config.card), FrameStep(lm), SamplingConfig())


def wordless(lm: Lm, codec: Codec | None = None, kv_bits: int | None = None) -> Moshi:
    """A Moshi around a language model that nobody trained. codec: none unless given."""
    codec = codec or NoCodec(lm.config.codebooks, lm.config.card)
    return Moshi(lm, codec, NoWords(), kv_bits=kv_bits)
