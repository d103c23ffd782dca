"""Spectrograms of what Nano says beside what it learnt from."""

from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def spectrograms(path: Path, pairs: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """Draw (original, spoken) recordings, float32 at 24 kHz, side by side, one pair a row."""
    figure, rows = plt.subplots(len(pairs), 2, figsize=(10, 2.6 * len(pairs)), layout="constrained", squeeze=False)
    for (text, pair), axes in zip(pairs.items(), rows, strict=True):
        for axis, pcm, whose in zip(axes, pair, ("original", "Nano"), strict=True):
            axis.specgram(pcm + 1e-6, NFFT=512, noverlap=384, Fs=24_000, vmin=-140, vmax=-40)
            axis.set_ylim(0, 8_000)
            axis.set_title(f"{whose}: {text}", fontsize=9)
    figure.savefig(path, dpi=70)
    plt.close(figure)
