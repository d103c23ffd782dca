"""Changing the rate of a recording to 24 kHz, whole or piece by piece, without delay: sample 0 stays sample 0."""

import math
from collections.abc import Iterable, Iterator

import numpy as np

from moshi_mlx.frames import SAMPLE_RATE

QUALITY = "VHQ"


def resampled_length(samples: int, rate: int) -> int:
    """Return how many samples at 24 kHz last as long as `samples` at `rate`, to the nearest."""
    return math.floor(samples * SAMPLE_RATE / rate + 0.5)


def resample(mono: np.ndarray, rate: int) -> np.ndarray:
    """Return (samples,) float32 of a rate at 24 kHz, `resampled_length` of them."""
    if rate == SAMPLE_RATE:
        return mono
    import soxr

    expected = resampled_length(len(mono), rate)
    pcm = soxr.resample(mono, rate, SAMPLE_RATE, quality=QUALITY)[:expected]
    return np.pad(pcm, (0, expected - len(pcm)))


def resampled(pieces: Iterable[np.ndarray], rate: int) -> Iterator[np.ndarray]:
    """Yield the same piece by piece, of any lengths, for pieces of any lengths."""
    if rate == SAMPLE_RATE:
        yield from pieces
        return
    import soxr

    stream = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality=QUALITY)
    taken = given = 0
    for piece in pieces:
        taken += len(piece)
        pcm = stream.resample_chunk(np.ascontiguousarray(piece))
        given += len(pcm)
        yield pcm
    left = resampled_length(taken, rate) - given
    last = stream.resample_chunk(np.zeros(0, np.float32), last=True)[: max(left, 0)]
    yield np.pad(last, (0, max(left, 0) - len(last)))
