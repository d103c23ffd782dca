"""Samples summed up: means and quantiles with bootstrap intervals, one model beside another, and a verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from moshi_mlx.quality.behaviour.measures import MEASURES, Measure
from moshi_mlx.quality.behaviour.scene import TASKS
from moshi_mlx.quality.metrics import CONFIDENCE, Estimate

ROUNDS = 2000
FEWEST = 10  # samples of both, below which nothing is beyond doubt: of fewer, an interval is too narrow

STATISTICS = ("mean", "median", "p90")

Place = tuple[str, str]  # (task, condition)
Measured = Mapping[str, Mapping[str, float]]  # of the samples of one place: id -> measure -> value


@dataclass(frozen=True)
class Key:
    """Which figure: a statistic of a measure, in a task under a condition."""

    task: str
    condition: str
    measure: str
    statistic: str


@dataclass(frozen=True)
class Figure:
    """A figure of one model: its value with an interval, and of how many samples it is."""

    estimate: Estimate
    samples: int


@dataclass(frozen=True)
class Behaviour:
    """A model's figures. samples: by place; figures: in the order in which they are shown."""

    name: str
    samples: dict[Place, dict[str, dict[str, float]]]
    figures: dict[Key, Figure] = field(default_factory=dict)


def summed_up(name: str, samples: dict[Place, dict[str, dict[str, float]]], seed: int = 0) -> Behaviour:
    """Return the figures of a model: of every measure the mean, of times the median and the 90th percentile, too.

    Intervals are of 95 %, by drawing whole samples again. Source: Efron, 1979, the percentile bootstrap.
    """
    figures: dict[Key, Figure] = {}
    for place in sorted(samples, key=lambda one: (TASKS.index(one[0]), one[1] != "clean", one[1])):
        for measure in MEASURES:
            values = _column(samples[place], sorted(samples[place]), measure)
            count = int(np.isfinite(values).sum())
            if not any(measure.name in one for one in samples[place].values()):
                continue
            for statistic in STATISTICS if measure.spread else STATISTICS[:1]:
                estimate = _estimate(_drawn(statistic, values, seed), _statistic(statistic, values[None])[0])
                figures[Key(*place, measure.name, statistic)] = Figure(estimate, count)
    return Behaviour(name, samples, figures)


def deltas(reference: Behaviour, other: Behaviour, confidence: float = CONFIDENCE) -> dict[Key, Estimate]:
    """Return by how much each figure of a model is above the reference's, on the samples that both have.

    The same samples are drawn of both in every round, so that what is hard for both does not widen the interval.
    confidence: of the intervals. A figure that one of them does not have is left out.
    """
    found: dict[Key, Estimate] = {}
    measures = {measure.name: measure for measure in MEASURES}
    for key in reference.figures:
        ours, theirs = (one.samples.get((key.task, key.condition), {}) for one in (reference, other))
        common = sorted(ours.keys() & theirs.keys())
        a, b = (_column(one, common, measures[key.measure]) for one in (ours, theirs))
        if not (np.isfinite(a).any() and np.isfinite(b).any()):
            continue
        difference = _drawn(key.statistic, b) - _drawn(key.statistic, a)
        value = _statistic(key.statistic, b[None])[0] - _statistic(key.statistic, a[None])[0]
        found[key] = _estimate(difference, value, confidence)
    return found


def differences(reference: Behaviour, other: Behaviour) -> dict[Key, Estimate]:
    """Return the deltas that are beyond doubt: with 95 % none of all that were looked at is there by chance.

    One statistic of each measure is looked at, the median of times; by Bonferroni each has its part of the 5 %.
    Measures of fewer than FEWEST samples are left out.
    """
    looked = [
        key
        for key in reference.figures
        if key.statistic == _looked_at(key.measure)
        and min(one.figures[key].samples if key in one.figures else 0 for one in (reference, other)) >= FEWEST
    ]
    sure = deltas(reference, other, 1 - (1 - CONFIDENCE) / max(1, len(looked)))
    return {key: sure[key] for key in looked if key in sure and (sure[key].low > 0 or sure[key].high < 0)}


def verdict(reference: Behaviour, other: Behaviour) -> str:
    """Say in a line how a model behaves beside the reference."""
    sure = differences(reference, other)
    count = sum(
        len(ours.keys() & other.samples.get(place, {}).keys()) for place, ours in reference.samples.items()
    )
    if not count:
        return f"{other.name}: it has no sample of a scene that {reference.name} was in"
    if not sure:
        return f"{other.name}: no difference from {reference.name} is beyond doubt in {count} samples"
    measures = {measure.name: measure for measure in MEASURES}
    parts = []
    for key, delta in sure.items():
        measure = measures[key.measure]
        better = measure.better_in(key.task)
        judged = "" if not better else "better: " if (delta.value > 0) == (better == "higher") else "worse: "
        where = key.task.replace("_", " ") + ("" if key.condition == "clean" else f" ({key.condition})")
        parts.append(f"{judged}{where}, {measure.title} {delta.value:+.2g}{_unit(measure)}")
    return f"{other.name} beside {reference.name}: {'; '.join(parts)}"


def _unit(measure: Measure) -> str:
    return f" {measure.unit}" if measure.unit.isalpha() else measure.unit


def _looked_at(measure: str) -> str:
    return next("median" if one.spread else "mean" for one in MEASURES if one.name == measure)


def _column(samples: Measured, ids: Sequence[str], measure: Measure) -> np.ndarray:
    return np.array([samples[one].get(measure.name, math.nan) for one in ids], np.float64)


def _drawn(statistic: str, values: np.ndarray, seed: int = 0) -> np.ndarray:
    """The statistic of samples drawn again, (ROUNDS,); the same ones for all columns of a length."""
    chosen = np.random.default_rng(seed).integers(0, len(values), (ROUNDS, len(values)))
    return _statistic(statistic, values[chosen])


def _statistic(statistic: str, rows: np.ndarray) -> np.ndarray:
    """A statistic of each row, of what is a number in it; NaN where nothing is."""
    known = np.isfinite(rows)
    found = np.full(len(rows), math.nan)
    some = known.any(axis=1)
    if statistic == "mean":
        found[some] = np.where(known, rows, 0.0)[some].sum(axis=1) / known[some].sum(axis=1)
        return found
    share = {"median": 0.5, "p90": 0.9}[statistic]
    ordered = np.sort(np.where(known, rows, math.inf), axis=1)[some]
    place = share * (known[some].sum(axis=1) - 1)
    low = np.floor(place).astype(int)
    high = np.minimum(low + 1, known[some].sum(axis=1) - 1)
    at = np.arange(len(ordered))
    found[some] = ordered[at, low] + (place - low) * (ordered[at, high] - ordered[at, low])
    return found


def _estimate(drawn: np.ndarray, value: float, confidence: float = CONFIDENCE) -> Estimate:
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn):
        return Estimate(math.nan, math.nan, math.nan)
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Estimate(float(value), float(low), float(high))
