"""Phones found by laying one recording beside another of the same words."""

import numpy as np

from training.align import aligned
from training.voices import LABEL_RATE, SAMPLE_RATE, Utterance

SOUNDS = {1: (300, 2300), 2: (700, 1100), 3: (500, 3500)}  # label -> the two loudest frequencies, Hz


def say(parts: list[tuple[int, float]], pitch: float, seed: int) -> Utterance:
    """Sounds of (label, seconds) one after the other; 0 is near silence."""
    rng = np.random.default_rng(seed)
    pcm, labels = [], []
    for label, seconds in parts:
        count = round(seconds * LABEL_RATE)
        time = np.arange(count * SAMPLE_RATE // LABEL_RATE) / SAMPLE_RATE
        tones = sum(np.sin(2 * np.pi * pitch * frequency * time) for frequency in SOUNDS.get(label, ()))
        pcm.append(0.1 * tones + 0.001 * rng.standard_normal(len(time)))
        labels += [label] * count
    return Utterance(np.concatenate(pcm).astype(np.float32), np.array(labels, np.uint8))


def test_labels_follow_another_pace_and_pitch() -> None:
    known = say([(0, 0.2), (1, 0.3), (2, 0.2), (3, 0.1), (1, 0.2), (0, 0.2)], 1.0, 1)
    other = say([(0, 0.4), (1, 0.1), (2, 0.4), (3, 0.3), (1, 0.1), (0, 0.1)], 1.06, 2)
    found = aligned(other.pcm, known)
    assert found.shape == other.labels.shape
    assert np.mean(found == other.labels) > 0.95
    straight = known.labels[np.arange(len(found)) * len(known.labels) // len(found)]
    assert np.mean(straight == other.labels) < 0.6, "the two differ enough that stretching alone would not do"


def test_the_same_recording_keeps_its_labels() -> None:
    known = say([(0, 0.1), (2, 0.3), (3, 0.25), (0, 0.1)], 1.0, 3)
    assert np.array_equal(aligned(known.pcm, known), known.labels)
