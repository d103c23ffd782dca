"""What a codec is to conversations: loaded weights, from which they get streams that take their frames together.

What the two implementations give is the same up to rounding for 125 frames. Then the transformers' window is full:
Mimi's, and ours, has 250 positions of 40 ms, rustymimi 0.4.1 sees 251, and now and then a code differs (with ours
widened to 251 none does). Not here: which frame of a conversation is the first (see `runtime.session`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

import numpy as np

from moshi_mlx.errors import CodecError, MoshiError

T = TypeVar("T")


class Codec(Protocol):
    """Loaded weights that streams are made from."""

    name: str  # "rust" or "mlx"
    threaded: bool  # encode and decode run outside MLX, each may be called from a thread of its own
    codebooks: int

    def stream(self) -> CodecStream:
        """Return a fresh stream for one conversation, which takes its frames by itself."""
        ...

    def streams(self) -> CodecStreams:
        """Return what makes streams that take their frames together, and takes them."""
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


Answers = dict[CodecStream, "np.ndarray | CodecError"]
"""What became of each stream's frame: what is one stream's trouble is its answer, and does not stop the others."""


def or_raise(answer: T | MoshiError) -> T:
    """Return an answer, or raise it."""
    if isinstance(answer, MoshiError):
        raise answer
    return answer


Finish = Callable[[], Answers]
"""Waits for answers that are being worked out."""


class CodecStreams(Protocol):
    """Streams that take their frames together. They may come, reset, pause and close between any two frames."""

    def stream(self) -> CodecStream:
        """Return a fresh stream, one of these."""
        ...

    def encode(self, frames: Mapping[CodecStream, np.ndarray]) -> Finish:
        """Begin to turn a frame of each of these streams into codes; as `CodecStream.encode`."""
        ...

    def decode(self, codes: Mapping[CodecStream, np.ndarray]) -> Finish:
        """Begin to turn codes of each of these streams into audio; as `CodecStream.decode`."""
        ...


class StreamsApart:
    """Streams that share nothing: each does its own, at the same time where `threaded`."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._pool: ThreadPoolExecutor | None = None  # once there are several streams

    def stream(self) -> CodecStream:
        return self._codec.stream()

    def encode(self, frames: Mapping[CodecStream, np.ndarray]) -> Finish:
        answers = self._each(_encoded, frames)
        return lambda: answers

    def decode(self, codes: Mapping[CodecStream, np.ndarray]) -> Finish:
        answers = self._each(_decoded, codes)
        return lambda: answers

    def _each(
        self,
        function: Callable[[CodecStream, np.ndarray], np.ndarray | CodecError],
        given: Mapping[CodecStream, np.ndarray],
    ) -> Answers:
        mapping: Callable[..., Iterable[np.ndarray | CodecError]] = map
        if self._codec.threaded and len(given) > 1:
            self._pool = self._pool or ThreadPoolExecutor(thread_name_prefix="moshi-codec")
            mapping = self._pool.map
        return dict(zip(given, mapping(function, given.keys(), given.values()), strict=True))


def _encoded(stream: CodecStream, frame: np.ndarray) -> np.ndarray | CodecError:
    try:
        return stream.encode(frame)
    except CodecError as error:
        return error


def _decoded(stream: CodecStream, codes: np.ndarray) -> np.ndarray | CodecError:
    try:
        return stream.decode(codes)
    except CodecError as error:
        return error


def check_codes(codes: np.ndarray, bins: int) -> None:
    """Raise CodecError for a code that no codebook has, such as the initial token."""
    wrong = np.flatnonzero((codes < 0) | (codes >= bins))
    if wrong.size:
        raise CodecError(f"code {codes[wrong[0]]} of codebook {wrong[0]} is outside 0–{bins - 1}")
