"""Bad conditions between a mouth and a codec that the evaluation tries one by one: rooms, lines, losses.

Each takes a recording, silence around the speech in it included, and gives one of the same length.
"""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import soundfile
import soxr

from moshi_mlx.frames import FRAME_SAMPLES, SAMPLE_RATE
from training import augment

Condition = Callable[[np.random.Generator, np.ndarray], np.ndarray]

TELEPHONE_RATE = 8_000
OPUS_RATE = 16_000  # bits a second
# libsndfile's ogg_opus.c: 6 kb/s a channel at a compression level of 1, 256 kb/s at 0.
OPUS = {"format": "OGG", "subtype": "OPUS", "compression_level": 1 - (OPUS_RATE - 6_000) / 250_000}
LOST = 0.02  # of chunks of a frame's length


def room_response(rng: np.random.Generator, decay: float, distance: float, volume: float) -> np.ndarray:
    """The impulse response of a room (samples,) float32: the direct sound, 1, and reverberation.

    decay: RT60, the seconds in which reverberation falls by 60 dB; distance: metres between mouth and microphone;
    volume: of the room, m³. Reverberation is noise that decays exponentially, as loud as the direct sound at the
    critical distance, 0.057 √(volume / RT60) metres.
    Source: Polack, 1988, La transmission de l'énergie sonore dans les salles; Kuttruff, Room Acoustics, 5.5.
    """
    length = int(decay * SAMPLE_RATE)
    tail = rng.standard_normal(length) * 10 ** (-3 * np.arange(length) / length)
    tail[0] = 0
    critical = 0.057 * (volume / decay) ** 0.5
    tail *= distance / critical / np.sqrt(np.sum(tail**2))
    tail[0] = 1
    return tail.astype(np.float32)


def convolved(pcm: np.ndarray, response: np.ndarray) -> np.ndarray:
    """`pcm` as heard through an impulse response, of the same length and the same energy."""
    out = augment.through(pcm, response)
    return (out * np.sqrt(np.sum(pcm**2) / (np.sum(out**2) + 1e-12))).astype(np.float32)


def room(rng: np.random.Generator, pcm: np.ndarray) -> np.ndarray:
    """RT60 of 0.2 to 0.8 s, half a metre to two metres from the microphone, in 30 to 120 m³."""
    return convolved(pcm, room_response(rng, rng.uniform(0.2, 0.8), rng.uniform(0.5, 2), rng.uniform(30, 120)))


def telephone(rng: np.random.Generator, pcm: np.ndarray) -> np.ndarray:
    """300 to 3400 Hz at 8 kHz, in the 8 bits of G.711's μ-law."""
    narrow = soxr.resample(augment.narrow(pcm, 3_400, 300), SAMPLE_RATE, TELEPHONE_RATE)
    line = decoded(encoded(np.clip(narrow, -1, 1), TELEPHONE_RATE, format="WAV", subtype="ULAW"))
    return _as_long(soxr.resample(line, TELEPHONE_RATE, SAMPLE_RATE), pcm)


def noisy(rng: np.random.Generator, pcm: np.ndarray) -> np.ndarray:
    """Noise all the time, white to brown, 20 to 30 dB below the speech."""
    level = np.sqrt(np.mean(pcm[augment.spoken(pcm)] ** 2)) * 10 ** (-rng.uniform(20, 30) / 20)
    return pcm + (level * augment.noise(rng, len(pcm))).astype(np.float32)


def clipped(rng: np.random.Generator, pcm: np.ndarray) -> np.ndarray:
    """Overdriven by 10 to 20 dB: what is above that far below the peak is cut off. The peak stays."""
    peak = np.abs(pcm).max()
    return (peak * np.clip(pcm * 10 ** (rng.uniform(10, 20) / 20) / peak, -1, 1)).astype(np.float32)


def opus(rng: np.random.Generator, pcm: np.ndarray) -> np.ndarray:
    """Through Opus at 16 kb/s."""
    return _as_long(decoded(encoded(pcm, SAMPLE_RATE, **OPUS)), pcm)


def lost(rng: np.random.Generator, pcm: np.ndarray) -> np.ndarray:
    """2 % of chunks of 80 ms are silence, at least one of them within the speech."""
    out, offset = pcm.copy(), int(rng.integers(FRAME_SAMPLES))
    within = np.flatnonzero(np.abs(pcm) > 0.01 * np.abs(pcm).max())
    chunks = np.arange(-offset, len(pcm), FRAME_SAMPLES)
    gone = rng.random(len(chunks)) < LOST
    inside = np.flatnonzero((chunks + FRAME_SAMPLES > within[0]) & (chunks <= within[-1]))
    if not gone[inside].any():
        gone[rng.choice(inside)] = True
    for start in chunks[gone]:
        out[max(0, start) : start + FRAME_SAMPLES] = 0
    return out


def unchanged(rng: np.random.Generator, pcm: np.ndarray) -> np.ndarray:
    """The same, to compare with."""
    return pcm


CONDITIONS: dict[str, Condition] = {
    "none": unchanged,
    "room": room,
    "telephone": telephone,
    "noise": noisy,
    "clipped": clipped,
    "opus": opus,
    "lost": lost,
}


def encoded(pcm: np.ndarray, rate: int, **options: Any) -> bytes:
    """A sound file. options: of `soundfile.write`."""
    with io.BytesIO() as file:
        soundfile.write(file, pcm, rate, **options)
        return file.getvalue()


def decoded(content: bytes) -> np.ndarray:
    """The samples of a sound file."""
    return soundfile.read(io.BytesIO(content), dtype="float32")[0]


def _as_long(pcm: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.pad(pcm, (0, max(0, len(other) - len(pcm))))[: len(other)].astype(np.float32)
