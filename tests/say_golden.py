"""Reading the golden streams of text-to-speech models."""

import numpy as np

from moshi_mlx.codec.base import StreamsApart
from moshi_mlx.models.conditioner_config import Vectors
from moshi_mlx.runtime.wordless import NoWords
from tests.say_texts import encode, voice

PLACES = 5  # speakers


def speakers(seeds: list[int]) -> Vectors:
    """The vectors of speakers, and the empty places of those who are not there, in tests of the networks alone."""
    files = [voice(seed)[0].T for seed in seeds]
    length, dim = files[0].shape
    values = np.zeros((PLACES * length, dim), np.float32)
    values[: len(files) * length] = np.concatenate(files)
    return Vectors(values, np.arange(PLACES * length) < len(files) * length)


class SaidCodec:
    """A codec whose audio are codes: known ones for what it hears, and those that it is given."""

    name, threaded = "said", False

    def __init__(self, codebooks: int) -> None:
        self.codebooks = codebooks
        self.known = np.zeros((0, codebooks), np.int32)

    def stream(self) -> "SaidStream":
        return SaidStream(self)

    def streams(self) -> StreamsApart:
        return StreamsApart(self)


class SaidStream:
    """A stream of it."""

    def __init__(self, codec: SaidCodec) -> None:
        self._codec, self._heard = codec, 0

    def encode(self, frame: np.ndarray) -> np.ndarray:
        self._heard += 1
        known, none = self._codec.known, np.zeros(self._codec.codebooks, np.int32)
        return known[self._heard - 1] if self._heard <= len(known) else none

    def decode(self, codes: np.ndarray) -> np.ndarray:
        assert (codes >= 0).all(), "only frames that are whole have audio"
        return codes.astype(np.float32)

    def close(self) -> None: ...

    reset_encoder = reset_decoder = close


class SayTokenizer(NoWords):
    """The tokenizer of the golden streams."""

    def encode(self, text: str) -> list[int]:
        return encode(text)
