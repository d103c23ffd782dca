"""The audio codec behind one small interface: Mimi in Rust (rustymimi) or in MLX (our own).

A codec is loaded weights; each conversation has a stream of its own. What the two give is the same up to rounding.
Not here: which frame of a conversation is the first (see `session`).
"""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import mlx.core as mx
import numpy as np

from moshi_mlx.errors import CheckpointError, CodecError, ConfigError
from moshi_mlx.frames import FRAME_SAMPLES
from moshi_mlx.models.linear import settle
from moshi_mlx.models.mimi import Mimi
from moshi_mlx.models.mimi_config import MIMI, MimiConfig
from moshi_mlx.models.mimi_weights import check_published
from moshi_mlx.weights.safetensors_file import read_header

KINDS = ("auto", "rust", "mlx")


class Codec(Protocol):
    """Loaded weights that streams are made from."""

    name: str  # "rust" or "mlx"
    threaded: bool  # encode and decode run outside MLX, each may be called from a thread of its own
    codebooks: int

    def stream(self) -> CodecStream:
        """A fresh stream for one conversation."""
        ...


class CodecStream(Protocol):
    """Both directions of one conversation."""

    def encode(self, frame: np.ndarray) -> np.ndarray:
        """(1920,) float32 in [-1, 1] -> (K,) int32. Raises CodecError."""
        ...

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """(K,) ints -> (1920,) float32. Raises CodecError."""
        ...

    def reset(self) -> None:
        """Forget both directions."""
        ...

    def reset_encoder(self) -> None:
        """Forget what was encoded; for the thread that encodes."""
        ...

    def reset_decoder(self) -> None:
        """Forget what was decoded; for the thread that decodes."""
        ...

    def close(self) -> None:
        """Give back what the stream holds; calling it twice is fine."""
        ...


def load_codec(weights: Path, config: MimiConfig, codebooks: int, kind: str = "auto") -> Codec:
    """Load a published Mimi file.

    codebooks: how many codes a frame has, the file may hold more.
    kind: "rust", "mlx", or "auto": rust where it is installed and the config is the published one, else mlx.
    Raises CodecError for a kind that cannot be had, CheckpointError for a file that does not fit its config.
    """
    if kind not in KINDS:
        raise CodecError(f"codec {kind!r}: one of {', '.join(KINDS)} expected")
    if not 1 <= codebooks <= config.n_q:
        raise ConfigError(f"the model needs {codebooks} codebooks, the codec {weights} has {config.n_q}")
    check_file(weights, config)
    obstacle = _obstacle_to_rust(config)
    if kind == "rust" and obstacle:
        raise CodecError(f"{obstacle}; use --codec mlx")
    if kind == "mlx" or obstacle:
        return MlxCodec(weights, config, codebooks)
    from moshi_mlx.codec_rust import RustCodec

    return RustCodec(weights, codebooks)


def check_file(weights: Path, config: MimiConfig) -> None:
    """Raise CheckpointError unless a file holds what its config says; only its header is read."""
    header = read_header(weights)
    try:
        check_published(header, config)
    except CheckpointError as error:
        raise CheckpointError(f"{weights}: {error}") from error


def _obstacle_to_rust(config: MimiConfig) -> str | None:
    if find_spec("rustymimi") is None:
        return "rustymimi is not installed here (pip install rustymimi; it has no wheel for Python 3.14)"
    if replace(config, n_q=MIMI.n_q) != MIMI:
        return "rustymimi knows only the shape of Kyutai's published Mimi, this one has another"
    return None


class MlxCodec:
    """Our own Mimi; to be used on the thread that owns MLX."""

    name = "mlx"
    threaded = False

    def __init__(self, weights: Path, config: MimiConfig, codebooks: int) -> None:
        self.codebooks = codebooks
        self._bins = config.bins
        self._mimi = Mimi(config, codebooks)
        try:
            published = mx.load(str(weights), format="safetensors")
        except RuntimeError as error:
            raise CheckpointError(f"cannot load {weights}: {_first_line(error)}") from error
        assert isinstance(published, dict)
        self._mimi.load_weights(list(Mimi.sanitize(published, config, codebooks).items()))
        mx.eval(self._mimi.parameters())
        settle(self._mimi)

    def stream(self) -> MlxStream:
        return MlxStream(self._mimi, self._bins)


class MlxStream:
    """One conversation with our own Mimi: a state of one row."""

    def __init__(self, mimi: Mimi, bins: int) -> None:
        self._mimi = mimi
        self._bins = bins
        self._state = mimi.new_state()
        mx.eval(self._state.arrays())  # so that another thread may take the first step

    def encode(self, frame: np.ndarray) -> np.ndarray:
        assert frame.shape == (FRAME_SAMPLES,), frame.shape
        codes = self._mimi.encode_step(mx.array(frame, mx.float32)[None], self._state)
        mx.eval(codes, self._state.encoder.arrays())
        return np.array(codes)[0, :, 0]

    def decode(self, codes: np.ndarray) -> np.ndarray:
        check_codes(codes, self._bins)
        pcm = self._mimi.decode_step(mx.array(codes, mx.int32)[None, :, None], self._state)
        mx.eval(pcm, self._state.decoder.arrays())
        return np.array(pcm)[0]

    def reset(self) -> None:
        self.reset_encoder()
        self.reset_decoder()

    def reset_encoder(self) -> None:
        self._state.encoder = self._mimi.new_encoder_state()
        mx.eval(self._state.encoder.arrays())

    def reset_decoder(self) -> None:
        self._state.decoder = self._mimi.new_decoder_state()
        mx.eval(self._state.decoder.arrays())

    def close(self) -> None:
        pass


def check_codes(codes: np.ndarray, bins: int) -> None:
    """Raise CodecError for a code that no codebook has, such as the initial token."""
    wrong = np.flatnonzero((codes < 0) | (codes >= bins))
    if wrong.size:
        raise CodecError(f"code {codes[wrong[0]]} of codebook {wrong[0]}: 0 to {bins - 1} expected")


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0]
