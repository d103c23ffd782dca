"""What is measured in one sample: a scene, and a model's answer to it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from moshi_mlx.quality.behaviour.answer import Answer
from moshi_mlx.quality.behaviour.backchannel import backchannels
from moshi_mlx.quality.behaviour.scene import (
    BACKCHANNEL,
    INTERRUPTION,
    PAUSE_HANDLING,
    SILENCE,
    TURN_TAKING,
    Scene,
)
from moshi_mlx.quality.behaviour.takeover import (
    KYUTAI,
    response_latency,
    takes_over,
    words_after,
    words_per_minute,
)
from moshi_mlx.quality.behaviour.timing import (
    MODEL_GAP,
    USER_GAP,
    intersections,
    joined,
    length,
    overlaps,
    response_gaps,
)
from moshi_mlx.quality.behaviour.voice import Span
from moshi_mlx.quality.transcription import normalized
from moshi_mlx.tasks.words import Word

Better = Literal["lower", "higher", ""]

TAKEOVER = "takeover"


@dataclass(frozen=True)
class Measure:
    """Something that is measured.

    unit: "" for a share of samples or of time. better: which way is good, "" where that is a matter of taste;
    a task of `better_in` knows better. spread: whether it is a time of which median and p90 are told, too.
    """

    name: str
    title: str
    unit: str = ""
    better: Better = ""
    spread: bool = False

    def better_in(self, task: str) -> Better:
        """Return which way is good in a task."""
        if self.name in (TAKEOVER, "takeover_kyutai"):
            return _TAKING.get(task, "")
        return self.better


_TAKING: dict[str, Better] = {
    PAUSE_HANDLING: "lower",
    BACKCHANNEL: "lower",
    TURN_TAKING: "higher",
    INTERRUPTION: "higher",
    SILENCE: "lower",
}

MEASURES = (
    Measure(TAKEOVER, "takeover rate"),
    Measure("takeover_kyutai", "takeover rate, Kyutai's rule"),
    Measure("latency", "latency", "s", "lower", spread=True),
    Measure("stop", "stop latency", "s", "lower", spread=True),
    Measure("response", "response latency by voice", "s", "lower", spread=True),
    Measure("frequency", "backchannels a second", "/s", "higher"),
    Measure("divergence", "JSD", "", "lower"),
    Measure("accuracy", "right answers", "", "higher"),
    Measure("silent", "scenes without a word", "", "higher"),
    Measure("first_word", "time to the first word", "s", "higher"),
    Measure("overlap", "both speak"),
    Measure("talk", "the model speaks"),
    Measure("words_per_minute", "words a minute", "/min"),
)
"""In the order in which they are shown."""


def measure(scene: Scene, answer: Answer, user: Sequence[Span], model: Sequence[Span]) -> dict[str, float]:
    """Return what is measured in a sample, by the names of MEASURES; NaN where there is nothing to measure.

    user, model: where each speaks, as `VoiceDetector.segments` gives it.
    Measures that have no meaning in the scene's task are left out.
    """
    words, seconds = answer.words, answer.seconds
    yields, waits = joined(user, USER_GAP), joined(model, MODEL_GAP)
    found: dict[str, float] = {
        "overlap": length(intersections(yields, waits)) / seconds,
        "talk": length(waits) / seconds,
        "words_per_minute": words_per_minute(words),
    }
    if scene.task == BACKCHANNEL:
        heard = backchannels(model, words, seconds)
        found |= {TAKEOVER: float(heard.takeover), "frequency": heard.frequency(seconds)}
        if scene.human:
            found["divergence"] = heard.divergence(scene.human, seconds)
    else:
        found |= {TAKEOVER: float(takes_over(words)), "takeover_kyutai": float(takes_over(words, KYUTAI))}
    if scene.task == SILENCE:
        found |= {"silent": float(not words), "first_word": words[0].start if words else seconds}
    if scene.interruption:
        found["stop"] = _mean(
            end - start for start, end in _concerning(overlaps(yields, waits), scene.interruption)
        )
    if scene.interruption or scene.turn_end is not None:
        found["response"] = _mean(end - start for start, end in response_gaps(yields, waits))
    if (end := _turn_end(scene)) is not None:
        found["latency"] = response_latency(words, end)
    if scene.answers:
        found["accuracy"] = accuracy(scene.answers, words_after(words, _turn_end(scene) or 0.0))
    return found


def accuracy(answers: Sequence[Sequence[str]], words: Sequence[Word]) -> float:
    """Return which share of what was asked is answered: one of its wordings is among the words, in its order.

    Case and punctuation do not count, see `transcription.normalized`.
    """
    said = [each for word in words for each in normalized(word.text)]

    def is_said(wording: str) -> bool:
        wanted = normalized(wording)
        return any(said[at : at + len(wanted)] == wanted for at in range(len(said) - len(wanted) + 1))

    return sum(any(map(is_said, wordings)) for wordings in answers) / len(answers)


def _turn_end(scene: Scene) -> float | None:
    """When an answer is due: the benchmark counts from there."""
    if scene.task == INTERRUPTION and scene.interruption:
        return scene.interruption[1]
    return scene.turn_end if scene.task == TURN_TAKING else None


def _concerning(spans: Sequence[Span], interruption: Span) -> list[Span]:
    """Of overlaps, those with the user's interruption."""
    begin, end = interruption
    return [span for span in spans if span[0] < end and span[1] > begin]


def _mean(values: Iterable[float]) -> float:
    values = list(values)
    return float(np.mean(values)) if values else math.nan
