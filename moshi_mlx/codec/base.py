"""What a codec is to a conversation: loaded weights, from which each conversation gets a stream of its own.

What the two implementations give is the same up to rounding for 125 frames. Then the transformers' window is full:
Mimi's, and ours, has 250 positions of 40 ms, rustymimi 0.4.1 sees 251, and now and then a code differs (with ours
widened to 251 none does). Not here: which frame of a conversation is the first (see `runtime.session`).
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from moshi_mlx.errors import CodecError


class Codec(Protocol):
    """Loaded weights that streams are made from."""

    name: str  # "rust" or "mlx"
    threaded: bool  # encode and decode run outside MLX, each may be called from a thread of its own
    codebooks: int

    def stream(self) -> CodecStream:
        """Return a fresh stream for one conversation."""
        ...


class CodecStream(Protocol):
    """Both directions of one conversation; what one forgets, the other keeps."""

    def encode(self, frame: np.ndarray) -> np.ndarray:
        """Turn one frame, (1920,) float32 in [-1, 1], into its codes, (K,) int32. Raises CodecError."""
        ...

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Turn the codes of one frame, (K,) ints, into audio, (1920,) float32. Raises CodecError."""
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


def check_codes(codes: np.ndarray, bins: int) -> None:
    """Raise CodecError for a code that no codebook has, such as the initial token."""
    wrong = np.flatnonzero((codes < 0) | (codes >= bins))
    if wrong.size:
        raise CodecError(f"code {codes[wrong[0]]} of codebook {wrong[0]} is outside 0–{bins - 1}")
