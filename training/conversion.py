"""Speakers that no synthesizer has: one voice's melody and pace, another one's vocal tract, of another size.

Cross-synthesis: the source's short-time spectra get the other's envelopes, laid beside it by time warping.
"""

import numpy as np

from training.align import HOP, WINDOW, path_between, spectra

_QUEFRENCY = 44  # samples of the cepstrum that make an envelope: 1.8 ms, below the period of any pitch
_MOST = np.log(30.0)  # by which an envelope may change a band


def converted(pcm: np.ndarray, other: np.ndarray, formants: float = 1.0, share: float = 1.0) -> np.ndarray:
    """`pcm` (samples,) float32 at 24 kHz, said by somebody with the vocal tract of `other`, peak 0.5.

    other: the same words in another voice, or `pcm` itself. formants: the factor by which its resonances move up.
    share: of the way from `pcm`'s own envelopes to the other's.
    """
    mine, theirs = spectra(pcm), spectra(other)
    where = np.arange(len(mine))
    if other is not pcm:
        steps = path_between(pcm, other)
        where = np.zeros(len(mine), int)
        where[steps[:, 0]] = steps[:, 1]
        where = np.minimum(where, len(theirs) - 1)
    own, wanted = _envelopes(mine), _envelopes(theirs)[where]
    bins = np.arange(own.shape[1])
    source = np.minimum(bins / formants, bins[-1])
    low = source.astype(int)
    part = source - low
    wanted = wanted[:, low] * (1 - part) + wanted[:, np.minimum(low + 1, bins[-1])] * part
    made = mine * np.exp(share * np.clip(wanted - own, -_MOST, _MOST))
    out = _samples(made, len(pcm))
    return (0.5 * out / (np.abs(out).max() + 1e-9)).astype(np.float32)


def _samples(frames: np.ndarray, length: int) -> np.ndarray:
    """The inverse of `align.spectra`: windowed again, and overlapping pieces added."""
    window = np.hanning(WINDOW)
    pieces = np.fft.irfft(frames, WINDOW) * window
    out = np.zeros((len(frames) - 1) * HOP + WINDOW)
    weight = np.zeros_like(out)
    for number, piece in enumerate(pieces):
        out[number * HOP :][:WINDOW] += piece
        weight[number * HOP :][:WINDOW] += window**2
    return (out / np.maximum(weight, 0.1))[WINDOW // 2 :][:length]


def _envelopes(frames: np.ndarray) -> np.ndarray:
    """Log envelopes [frames, bins] without their mean: how loud it is stays the source's affair."""
    magnitude = np.abs(frames)
    logs = np.log(magnitude + 1e-4 * magnitude.max() + 1e-9)
    cepstrum = np.fft.irfft(logs, axis=1)
    cepstrum[:, _QUEFRENCY : cepstrum.shape[1] - _QUEFRENCY + 1] = 0
    cepstrum[:, 0] = 0
    return np.fft.rfft(cepstrum, axis=1).real
