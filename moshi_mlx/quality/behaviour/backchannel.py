"""Backchannels: short words of a listener, how many there are, and whether they come when people give them.

Source: DanielLin94144/Full-Duplex-Bench, v1_v1.5/evaluation/eval_backchannel.py, its thresholds and its rounding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from moshi_mlx.quality.behaviour.voice import Span
from moshi_mlx.tasks.words import Word

LONG = 3.0  # seconds, above which a segment of speech is no backchannel but a turn
SHORT = 1.0  # seconds, below which few words are one
BIN = 0.2  # seconds, of the histogram
_NEVER = 1e-10  # added to every bin


@dataclass(frozen=True)
class Backchannels:
    """What a listener said.

    takeover: whether it was more than backchannels. segments: those that count as one, in seconds.
    """

    takeover: bool
    segments: tuple[Span, ...]

    def frequency(self, seconds: float) -> float:
        """Return how many there are a second."""
        return len(self.segments) / seconds

    def divergence(self, human: Sequence[float], seconds: float) -> float:
        """Return how far their times are from people's: Jensen-Shannon distance, in nats, 1 if there are none.

        human: of at least two bins, see `Scene.human`; stretched to the recording.
        """
        if not self.segments:
            return 1.0
        counts = np.full(int(seconds / BIN) + 1, _NEVER)
        for start, end in self.segments:
            counts[int(start / BIN) : int(end / BIN) + 1] += 1
        places, bins = np.linspace(0, 1, len(counts)), np.linspace(0, 1, len(human))
        return jensen_shannon(counts, np.interp(places, bins, human))


def backchannels(segments: Sequence[Span], words: Sequence[Word], seconds: float) -> Backchannels:
    """Judge what a listener said, in a recording of so many seconds.

    segments: of its voice, see `VoiceDetector.segments`; rounded here to a tenth of a second as by the script.
    The first one above three seconds is a takeover and ends the judgement. Of the shorter ones, which all count as
    backchannels, the last one decides whether the turn was taken, by its words and its length.
    """
    takeover, found = False, []
    for start, end in (_rounded(segment, seconds) for segment in segments):
        if end - start > LONG:
            return Backchannels(True, tuple(found))
        count = sum(_within(word, start, end) for word in words)
        takeover = count > 2 or end - start >= SHORT
        found.append((start, end))
    return Backchannels(takeover, tuple(found))


def jensen_shannon(p: np.ndarray, q: np.ndarray) -> float:
    """Return the Jensen-Shannon distance of two histograms, the root of the divergence, in nats."""
    p, q = p / p.sum(), q / q.sum()
    middle = (p + q) / 2

    def divergence(one: np.ndarray) -> float:
        known = one > 0
        return float(np.sum(one[known] * np.log(one[known] / middle[known])))

    return math.sqrt(max(0.0, (divergence(p) + divergence(q)) / 2))


def _rounded(segment: Span, seconds: float) -> Span:
    return max(round(segment[0], 1), 0.0), min(round(segment[1], 1), seconds)


def _within(word: Word, start: float, end: float) -> bool:
    """Return whether a word counts as said in a segment: it touches it, but a word without an end hardly does."""
    if math.isnan(word.end):
        return word.start == end
    if word.start >= start and word.end <= end:
        return True
    return word.end > end >= word.start or word.end > start >= word.start
