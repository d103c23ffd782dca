"""Loudness of speech as people hear it, in LUFS. Source: ITU-R BS.1770-4, annexes 1 and 2."""

from __future__ import annotations

import numpy as np

from moshi_mlx.errors import AudioFileError
from moshi_mlx.frames import SAMPLE_RATE

BLOCK, STEP = int(0.4 * SAMPLE_RATE), int(0.1 * SAMPLE_RATE)  # samples of a block, and from one to the next
SILENT, QUIETER = -70.0, 10.0  # LUFS below which a block never counts, LU below the others' mean


def at_loudness(pcm: np.ndarray, lufs: float) -> np.ndarray:
    """Return a recording, (samples,) float32 at 24 kHz, made as loud as asked for.

    Raises AudioFileError if there is nothing to hear in it.
    """
    measured = loudness(pcm)
    if measured <= SILENT:
        raise AudioFileError("the recording of a voice is silent; give one of somebody speaking")
    return (pcm * 10 ** ((lufs - measured) / 20)).astype(np.float32)


def loudness(pcm: np.ndarray) -> float:
    """Return the loudness of a recording, (samples,) at 24 kHz, in LUFS; -inf for silence."""
    weighted = np.square(_weighted(np.asarray(pcm, np.float64)))
    if len(weighted) < BLOCK:
        weighted = np.pad(weighted, (0, BLOCK - len(weighted)))
    ends = np.concatenate([[0.0], np.cumsum(weighted)])
    starts = np.arange(0, len(weighted) - BLOCK + 1, STEP)
    power = (ends[starts + BLOCK] - ends[starts]) / BLOCK
    power = power[power > _power(SILENT)]
    if not len(power):
        return -np.inf
    power = power[power > 10 ** (-QUIETER / 10) * power.mean()]
    return float(-0.691 + 10 * np.log10(power.mean()))


def _power(lufs: float) -> float:
    return 10 ** ((lufs + 0.691) / 10)


def _weighted(pcm: np.ndarray) -> np.ndarray:
    """Weight a recording as ears do: a high shelf for the head, then a high pass; both decay in the padding."""
    size = len(pcm) + SAMPLE_RATE
    z = np.exp(-2j * np.pi * np.arange(size // 2 + 1) / size)
    shelf, cut = _shelf(1681.974450955533, 3.999843853973347, 0.7071752369554196), _cut(38.13547087602444)
    response = np.prod([np.polyval(b[::-1], z) / np.polyval(a[::-1], z) for b, a in (shelf, cut)], axis=0)
    return np.fft.irfft(np.fft.rfft(pcm, size) * response, size)[: len(pcm)]


def _shelf(hertz: float, gain: float, quality: float) -> tuple[list[float], list[float]]:
    """Return a high shelf's coefficients (of the input, of the output). gain: dB."""
    k, high = np.tan(np.pi * hertz / SAMPLE_RATE), 10 ** (gain / 20)
    band, scale = high**0.4996667741545416, 1 + k / quality + k * k
    b = [high + band * k / quality + k * k, 2 * (k * k - high), high - band * k / quality + k * k]
    a = [scale, 2 * (k * k - 1), 1 - k / quality + k * k]
    return b, a


def _cut(hertz: float, quality: float = 0.5003270373238773) -> tuple[list[float], list[float]]:
    """Return a high pass's coefficients."""
    k = np.tan(np.pi * hertz / SAMPLE_RATE)
    return [1.0, -2.0, 1.0], [1 + k / quality + k * k, 2 * (k * k - 1), 1 - k / quality + k * k]
