"""What people say to Nano in its evaluation: drawn anew each time, by voices of synthesizers."""

import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import soxr

from training import augment
from training.voices import SAMPLE_RATE, Voice, speak

RATES = (8_000, 11_025, 16_000, 22_050, 24_000, 44_100, 48_000)
WORKERS = 4  # synthesizers at once


@dataclass(frozen=True)
class Said:
    """Who says what."""

    voice: Voice
    text: str


def spoken(rng: np.random.Generator, said: Said) -> np.ndarray:
    """A sentence (samples,) float32 at pace ±15 %, pitch ±10 % and −12 to +6 dB of a peak of 0.5."""
    speed, pitch, gain = rng.uniform(0.87, 1.15), rng.uniform(0.9, 1.1), 10 ** (rng.uniform(-12, 6) / 20)
    pcm = augment.trimmed(speak(said.voice, said.text, float(speed), float(pitch)).pcm, 0.01, 240)
    return np.clip(gain * pcm, -1, 1).astype(np.float32)


def recorded(rng: np.random.Generator, said: Said) -> np.ndarray:
    """As `spoken`, recorded at 8 to 48 kHz, in half of the cases with light noise."""
    pcm = spoken(rng, said)
    rate = int(rng.choice(RATES))
    if rate != SAMPLE_RATE:
        pcm = soxr.resample(soxr.resample(pcm, SAMPLE_RATE, rate), rate, SAMPLE_RATE)
    if rng.random() < 0.5:
        pcm = pcm + 10 ** (rng.uniform(-65, -42) / 20) * augment.noise(rng, len(pcm))
    return np.clip(pcm, -1, 1).astype(np.float32)


def all_of(make, seed: Sequence[int], several: Sequence[Said]) -> list[np.ndarray]:
    """`make(rng, said)` of several, side by side; each has a generator of its own, of `seed` and its number."""
    with ThreadPoolExecutor(WORKERS) as workers:
        generators = [np.random.default_rng([*seed, number]) for number in range(len(several))]
        return list(workers.map(make, generators, several))


def seed_of(name: str) -> int:
    """A seed of what is measured: the same in every run."""
    return zlib.crc32(name.encode())
