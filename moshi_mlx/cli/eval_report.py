"""Behaviours for people and programs: tables, Markdown, JSON."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import Any

from moshi_mlx.cli.tables import markdown, table
from moshi_mlx.quality.behaviour.measures import MEASURES, Measure
from moshi_mlx.quality.behaviour.scene import TASKS
from moshi_mlx.quality.behaviour.summary import Behaviour, Key, deltas, verdict
from moshi_mlx.quality.metrics import Estimate

WIDTH = 100  # columns of running text
LONGEST = 20  # letters of a name in a table; a longer one gets a number
STATISTICS = {"mean": "", "median": ", median", "p90": ", 9 of 10 below"}
TITLES = {
    "pause_handling": "pause handling",
    "backchannel": "backchannels",
    "smooth_turn_taking": "smooth turn-taking",
    "user_interruption": "user interruption",
    "user_backchannel": "the user's backchannels (1.5)",
    "talking_to_other": "the user talks to somebody else (1.5)",
    "background_speech": "voices in the background (1.5)",
    "silence": "silence",
}
_BY_NAME = {measure.name: measure for measure in MEASURES}

Tabled = Callable[[Iterable[Iterable[object]], Sequence[str]], str]


def behaviour_text(behaviours: Sequence[Behaviour]) -> str:
    """The verdict, and a table a task; the other models' differences from the first one in tables of their own."""
    verdicts = [textwrap.fill(line, WIDTH) for line in _verdicts(behaviours)]
    legend = textwrap.fill(_legend(behaviours), WIDTH)
    return "\n".join([*verdicts, *_tables(behaviours, table, "\n{}"), "", legend])


def behaviour_markdown(behaviours: Sequence[Behaviour]) -> str:
    """The same in Markdown."""
    return "\n".join(
        ["\n\n".join(_verdicts(behaviours)), *_tables(behaviours, markdown, "\n### {}\n"), "", _legend(behaviours)]
    )


def as_dict(behaviours: Sequence[Behaviour]) -> dict[str, Any]:
    """All figures, ready for JSON; what is not known is null."""
    reference, *others = behaviours
    models = []
    for one in behaviours:
        rows = [
            {**asdict(key), **_estimate(figure.estimate), "samples": figure.samples}
            for key, figure in one.figures.items()
        ]
        models.append({"model": one.name, "samples": sum(map(len, one.samples.values())), "figures": rows})
    for one, model in zip(others, models[1:], strict=True):
        model["verdict"] = verdict(reference, one)
        model["deltas"] = [{**asdict(key), **_estimate(each)} for key, each in deltas(reference, one).items()]
    return {"reference": reference.name, "models": models}


def _verdicts(behaviours: Sequence[Behaviour]) -> list[str]:
    reference, *others = behaviours
    if others:
        return [verdict(reference, one) for one in others]
    return [f"{reference.name}: {_in_short(reference)}"]


def _in_short(one: Behaviour) -> str:
    """A model in a line: whether it takes its turns and leaves others theirs."""
    parts = []
    for task, how in (
        ("smooth_turn_taking", "takes {} of its turns"),
        ("pause_handling", "speaks in {} of pauses"),
        ("user_interruption", "answers {} of interruptions"),
        ("silence", "breaks {} of silences"),
    ):
        figure = one.figures.get(Key(task, "clean", "takeover", "mean"))
        if figure and figure.samples:
            latency = one.figures.get(Key(task, "clean", "latency", "median"))
            after = f" after {latency.estimate.value:.2f} s" if latency and latency.samples else ""
            parts.append(how.format(f"{figure.estimate.value:.0%}") + after)
    return ", ".join(parts) or f"{sum(map(len, one.samples.values()))} samples"


def _tables(behaviours: Sequence[Behaviour], tabled: Tabled, heading: str) -> list[str]:
    reference, *others = behaviours
    keys = list(dict.fromkeys(key for one in behaviours for key in one.figures))
    names = [_called(one.name, number) for number, one in enumerate(behaviours, 1)]
    above = {one.name: deltas(reference, one) for one in others}
    parts = [f"{name} is {one.name}" for name, one in zip(names, behaviours, strict=True) if name != one.name]
    for task in TASKS:
        rows, changes = [], []
        for key in (key for key in keys if key.task == task):
            known = [one.figures.get(key) for one in behaviours]
            if not any(figure and figure.samples for figure in known):
                continue
            label, measure = _label(key), _BY_NAME[key.measure]
            if others:
                rows.append(
                    [label, *(_value(figure.estimate.value, measure) if figure else "" for figure in known)]
                )
                apart = [above[one.name].get(key) for one in others]
                if any(each and (each.low or each.high) for each in apart):
                    changes.append([label, *(_delta(each, measure) for each in apart)])
            else:
                figure = reference.figures[key]
                rows.append([label, _interval(figure.estimate, measure), figure.samples])
        if rows:
            parts += [
                heading.format(f"{TITLES[task]}"),
                tabled(rows, ["", *names, *([] if others else ["samples"])]),
            ]
        if changes:
            parts += ["", tabled(changes, ["", *(f"{name} - {names[0]}" for name in names[1:])])]
    return parts


def _called(name: str, number: int) -> str:
    return name if len(name) <= LONGEST else f"#{number}"


def _legend(behaviours: Sequence[Behaviour]) -> str:
    sizes = [sum(map(len, one.samples.values())) for one in behaviours]
    counts = ", ".join(map(str, sizes)) if len(set(sizes)) > 1 else f"{sizes[0]}{' each' * (len(sizes) > 1)}"
    equal = "; of differences, those that are zero in every sample are left out" if len(behaviours) > 1 else ""
    return f"samples: {counts}; 95 % intervals in brackets{equal}; docs/evaluation.md explains every figure"


def _label(key: Key) -> str:
    condition = "" if key.condition == "clean" else f", {key.condition}"
    return _BY_NAME[key.measure].title + STATISTICS[key.statistic] + condition


def _value(value: float, measure: Measure) -> str:
    if math.isnan(value):
        return "-"
    if measure.unit == "s":
        return f"{value:.3f} s"
    return f"{value:.0f}" if measure.unit == "/min" else f"{value:.3f}"


def _interval(estimate: Estimate, measure: Measure) -> str:
    low, high = (_value(each, measure).removesuffix(" s") for each in (estimate.low, estimate.high))
    return f"{_value(estimate.value, measure)} ({low} to {high})"


def _delta(estimate: Estimate | None, measure: Measure) -> str:
    if estimate is None:
        return "-"
    digits = 0 if measure.unit == "/min" else 3
    value, low, high = (f"{each:+.{digits}f}" for each in (estimate.value, estimate.low, estimate.high))
    return f"{value} ({low} to {high})"


def _estimate(estimate: Estimate) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in asdict(estimate).items()}
