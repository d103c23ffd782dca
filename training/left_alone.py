"""Sounds that Nano is to leave alone: noise, knocks, music, and people who talk to each other."""

from typing import Any

import numpy as np

from moshi_mlx.runtime.moshi import Moshi
from training import augment
from training.conditions import convolved, room_response
from training.dialogue import FILLERS
from training.heard import listen
from training.intervals import share
from training.recordings import Said, all_of, seed_of, spoken
from training.voices import SAMPLE_RATE, UNHEARD

SECONDS = 8.0
STROKE = 0.02 * SAMPLE_RATE  # samples in which one dies away to a third
FAINTER = (20, 35)  # dB by which others talk below a person at the microphone, whose peak is 0.5


def sounds(each: int) -> dict[str, list[np.ndarray]]:
    """`each` recordings of every kind, (samples,) float32 of SECONDS."""
    count = int(SECONDS * SAMPLE_RATE)

    def drawn(kind: str) -> list[np.random.Generator]:
        return [np.random.default_rng([seed_of(kind), number]) for number in range(each)]

    return {
        "noise": [10 ** (rng.uniform(-65, -38) / 20) * augment.noise(rng, count) for rng in drawn("noise")],
        "knocks": [rng.choice([0.03, 0.1, 0.3]) * augment.bumps(rng, count) for rng in drawn("knocks")],
        "music": [10 ** (rng.uniform(-35, -12) / 20) * music(rng, count) for rng in drawn("music")],
        "talk": [_talk(rng, count) for rng in drawn("talk")],
    }


def music(rng: np.random.Generator, length: int) -> np.ndarray:
    """A tune over chords with a beat, peak 1: plucked tones with overtones, and short noises."""
    out = np.zeros(length, np.float32)
    beat = int(60 / rng.uniform(80, 140) * SAMPLE_RATE)
    key = rng.uniform(110, 220)
    scale = np.array([0, 2, 4, 5, 7, 9, 11])
    overtones = 1 / np.arange(1, 7) ** rng.uniform(1, 2)
    for number, start in enumerate(range(0, length, beat)):
        root = int(rng.choice([0, 3, 4, 5])) if number % 4 == 0 else 0
        chord = [(root + step) % 7 for step in (0, 2, 4)] if number % 4 == 0 else []
        notes = [key * 2 ** (scale[degree] / 12) for degree in chord]
        notes += [2 * key * 2 ** (scale[rng.integers(7)] / 12)]
        for note in notes:
            tone = np.arange(min(3 * beat, length - start)) / SAMPLE_RATE
            waves = np.sin(2 * np.pi * note * np.arange(1, 7)[:, None] * tone)
            out[start : start + len(tone)] += overtones @ waves * np.exp(-tone * 3) / len(notes)
        stroke = np.arange(min(beat // 4, length - start))
        out[start : start + len(stroke)] += 0.2 * augment.noise(rng, len(stroke)) * np.exp(-stroke / STROKE)
    return out / np.abs(out).max()


def _talk(rng: np.random.Generator, count: int) -> np.ndarray:
    """Two people in turn, three to five metres away."""
    voices = [voice for group in UNHEARD.values() for voice in group]
    pair = [voices[index] for index in rng.choice(len(voices), 2, replace=False)]
    texts = rng.choice(FILLERS, 4, replace=False)
    said = [Said(pair[number % 2], str(text)) for number, text in enumerate(texts)]
    parts = all_of(spoken, [int(rng.integers(2**31))], said)
    pcm = np.zeros(count, np.float32)
    begin = 0
    for part in parts:
        end = min(count, begin + len(part))
        pcm[begin:end] = 0.5 * part[: end - begin] / np.abs(part).max()
        begin = end + int(rng.uniform(0.1, 0.6) * SAMPLE_RATE)
        if begin >= count:
            break
    pcm = convolved(pcm, room_response(rng, rng.uniform(0.3, 0.8), rng.uniform(3, 5), rng.uniform(50, 150)))
    return 0.5 * 10 ** (-rng.uniform(*FAINTER) / 20) * pcm / np.abs(pcm).max()


def left_alone(moshi: Moshi, each: int) -> dict[str, Any]:
    """The share of recordings, in none of which anybody speaks to Nano, in which it is silent."""
    heard_as = [(kind, pcm.astype(np.float32)) for kind, some in sounds(each).items() for pcm in some]
    kinds: dict[str, list[bool]] = {}
    disturbed = []
    for (kind, _), heard in zip(heard_as, listen(moshi, [pcm for _, pcm in heard_as], 1.0, 1.0), strict=True):
        silent = not heard.text and not heard.loud.any()
        if not silent:
            disturbed.append([kind, len(kinds.get(kind, [])), heard.text])
        kinds.setdefault(kind, []).append(silent)
    return {
        **share([quiet for some in kinds.values() for quiet in some]).as_dict(),
        "by_kind": {kind: share(some).as_dict() for kind, some in kinds.items()},
        "disturbed": disturbed,
    }
