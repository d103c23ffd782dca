"""Phones for voices whose synthesizer does not tell them: those of another voice that says the same words.

The two are laid side by side by dynamic time warping of their spectra (Sakoe and Chiba, 1978).
"""

import numpy as np

from training.voices import LABEL_RATE, SAMPLE_RATE, Utterance

BANDS = 40
WINDOW = 1024
HOP = SAMPLE_RATE // LABEL_RATE


def aligned(pcm: np.ndarray, known: Utterance) -> np.ndarray:
    """Labels [100 a second] of `pcm`, float32 at 24 kHz, from an utterance of the same words."""
    steps = path_between(pcm, known.pcm)
    count = -(-len(pcm) * LABEL_RATE // SAMPLE_RATE)
    where = np.zeros(count, int)
    where[steps[:, 0]] = steps[:, 1]  # the last of several
    return known.labels[np.minimum(where, len(known.labels) - 1)][:count]


def path_between(pcm: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Which hundredth of a second of one [steps, 0] belongs to which of another [steps, 1] that says the same."""
    return _path(1 - _features(pcm) @ _features(other).T)


def spectra(pcm: np.ndarray) -> np.ndarray:
    """Short-time spectra [frames, bins] of WINDOW samples under Hann's window, one every HOP."""
    frames = -(-len(pcm) // HOP)
    padded = np.pad(pcm, (WINDOW // 2, WINDOW + HOP))
    pieces = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP][:frames]
    return np.fft.rfft(pieces * np.hanning(WINDOW))


def _features(pcm: np.ndarray) -> np.ndarray:
    """Log spectra of voice-independent shape [frames, 2 x BANDS], each of length 1: bands and how they change."""
    power = np.abs(spectra(pcm)) ** 2
    logs = np.log(power @ _filters().T + 1e-5)
    logs = (logs - logs.mean(0)) / (logs.std(0) + 1e-3)
    change = np.gradient(
        np.apply_along_axis(lambda band: np.convolve(band, np.ones(3) / 3, "same"), 0, logs), axis=0
    )
    both = np.concatenate([logs, 2 * change], 1)
    return both / np.linalg.norm(both, axis=1, keepdims=True)


def _filters() -> np.ndarray:
    """Triangles [BANDS, bins] evenly spaced in mel from 80 to 8,000 Hz."""
    low, high = 2595 * np.log10(1 + np.array([80.0, 8_000.0]) / 700)
    mel = np.linspace(low, high, BANDS + 2)
    edges = 700 * (10 ** (mel / 2595) - 1)
    bins = np.fft.rfftfreq(WINDOW, 1 / SAMPLE_RATE)
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    return np.clip(np.minimum(rising, falling), 0, None)


def _path(cost: np.ndarray) -> np.ndarray:
    """The cheapest way [steps, 2] through a table of costs, corner to corner, forwards on both sides."""
    rows, columns = cost.shape
    total = np.full((rows + 1, columns + 1), np.inf)
    total[0, 0] = 0
    for diagonal in range(rows + columns - 1):
        i = np.arange(max(0, diagonal - columns + 1), min(rows, diagonal + 1))
        j = diagonal - i
        before = np.minimum(total[i, j], np.minimum(total[i, j + 1], total[i + 1, j]))
        total[i + 1, j + 1] = cost[i, j] + before
    at, steps = (rows, columns), []
    while at[0] > 0 and at[1] > 0:
        i, j = at
        steps.append((i - 1, j - 1))
        at = min(((i - 1, j - 1), (i - 1, j), (i, j - 1)), key=lambda cell: total[cell])
    return np.array(steps[::-1])
