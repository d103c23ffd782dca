"""How high a voice is."""

import numpy as np

from training.voices import SAMPLE_RATE

LOWEST, HIGHEST = 60.0, 320.0  # Hz
WINDOW, HOP = 1_200, 480  # samples: 50 ms, every 20 ms
VOICED = 0.5  # of its energy: as like itself one period later is what is voiced
FAINT = 10 ** (-45 / 20)  # RMS


def pitch(pcm: np.ndarray) -> float | None:
    """The median pitch of what is voiced in a recording, Hz; None where nothing is. pcm: (samples,) at 24 kHz.

    By autocorrelation: the lag at which a window is most like what follows it.
    """
    shortest, longest = int(SAMPLE_RATE / HIGHEST), int(SAMPLE_RATE / LOWEST)
    found = []
    for start in range(0, len(pcm) - WINDOW - longest, HOP):
        window = pcm[start : start + WINDOW]
        if np.sqrt(np.mean(window**2)) < FAINT:
            continue
        later = np.lib.stride_tricks.sliding_window_view(pcm[start : start + WINDOW + longest], WINDOW)[shortest:]
        likeness = later @ window / np.sqrt((later**2).sum(1) * (window**2).sum() + 1e-12)
        peaks = np.flatnonzero((likeness[1:-1] >= likeness[:-2]) & (likeness[1:-1] > likeness[2:])) + 1
        # A multiple of the period is as like: the first peak that is nearly the best counts.
        if len(peaks) and (best := likeness[peaks].max()) >= VOICED:
            found.append(SAMPLE_RATE / (shortest + int(peaks[np.argmax(likeness[peaks] >= 0.9 * best)])))
    return float(np.median(found)) if found else None
