"""Qualities for people, as tables."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence

from moshi_mlx.cli.tables import table
from moshi_mlx.quality.evaluator import Quality, StreamQuality
from moshi_mlx.quality.metrics import Estimate

CHIPS = ("M1", "M2", "M3", "M4", "M5", "M2 Pro", "M3 Pro", "M4 Pro", "M4 Max")
"""Whose frame times are shown, as many as a line holds; JSON has them all."""

WIDTH = 80  # columns that every line fits but for the names of models
LONGEST = 15  # letters of a name in a table; a longer one gets a number
GRADES = ((0.001, "the same"), (0.01, "nearly the same"), (0.05, "not quite the same"), (1.0, "something else"))
"""What a candidate says, by the share of draws that must come out different."""

SIZES = ("", "MB", "MB/frame", "KL", "KL text", "KL audio")
AGREEMENT = ("", "top-1 text", "top-1 audio", "changed", "hidden")
STREAMS = ("stream", "KL", "top-1", "perplexity", "higher by", "changed")


def grade(one: Quality) -> str:
    """Say in words how near a candidate is to its reference."""
    return next(word for limit, word in GRADES if one.changed.value <= limit)


def verdict(called: Sequence[tuple[str, Quality]]) -> str:
    """One line: how near every candidate is, each with the name it has in it."""
    grades = {word: [name for name, one in called if grade(one) == word] for _, word in GRADES}
    return "; ".join(f"{', '.join(names)}: {word}" for word, names in grades.items() if names)


def quality_text(reference: str, conversations: int, qualities: Sequence[Quality]) -> str:
    """The verdict, and a row a candidate in tables that fit 80 columns; all streams if there is one candidate."""
    first = qualities[0]
    called = [
        (one.candidate if len(one.candidate) <= LONGEST else f"#{number}", one)
        for number, one in enumerate(qualities, start=1)
    ]

    def rows(columns: Callable[[Quality], tuple[str, ...]]) -> list[tuple[str, ...]]:
        return [(name, *columns(one)) for name, one in called]

    parts = [
        textwrap.fill(verdict(called), WIDTH),
        *(f"{name} is {one.candidate}" for name, one in called if name != one.candidate),
        f"compared with {reference}",
        f"on {first.steps} steps of what it said in {conversations} conversation{'s' * (conversations != 1)}; "
        "95 % intervals",
        "",
        table(rows(_sizes), SIZES),
        "KL: divergence in nats a step; KL text and KL audio are its parts",
        "",
        table(rows(_agreement), AGREEMENT),
        "top-1: steps with the same likeliest token; changed: draws that must differ;",
        f"the same: up to {GRADES[0][0]:.1%} changed; nearly: {GRADES[1][0]:.0%}; not quite: {GRADES[2][0]:.0%};",
        "hidden: relative error of the temporal transformer's output",
    ]
    if len(qualities) == 1:
        parts += ["", table(map(_stream, first.streams), STREAMS)]
    for name, one in called:
        if one.same_codes is not None:
            parts.append(f"{name}: {one.same_codes:.1%} of the user's codes are the same")
    parts += ["", "predicted ms a frame, full window", table(rows(_times), ("", *CHIPS))]
    return "\n".join(parts)


def card_figures(reference: str, one: Quality) -> dict[str, str]:
    """What a model card says of its model's quality."""
    return {
        "compared with": f"{reference}, on {one.steps} steps of its own conversations",
        "KL divergence, nats a step": _nats(one.kl),
        "of that text, audio": f"{one.kl_text.value:.2g}, {one.kl_audio.value:.2g}",
        "same likeliest text token": _percent(one.top1_text),
        "same likeliest codes": _percent(one.top1_audio),
        "hidden states, relative error": f"{one.hidden_error.value:.2%}",
    }


def _sizes(one: Quality) -> tuple[str, ...]:
    return (
        _short(one.bytes / 1e6, 1000),
        _short(one.bytes_per_frame / 1e6, 1000),
        _nats(one.kl),
        f"{one.kl_text.value:.2g}",
        f"{one.kl_audio.value:.2g}",
    )


def _agreement(one: Quality) -> tuple[str, ...]:
    return (
        _share(one.top1_text),
        _share(one.top1_audio),
        f"{one.changed.value:.2%}",
        f"{one.hidden_error.value:.2%}",
    )


def _times(one: Quality) -> tuple[str, ...]:
    return tuple(_short(one.frame_ms[chip], 100) for chip in CHIPS)


def _stream(one: StreamQuality) -> tuple[str, ...]:
    higher = one.perplexity_delta
    return (
        one.stream,
        f"{one.kl.value:.2g}",
        f"{one.top1.value:.2%}",
        f"{one.reference_perplexity:.3f}",
        f"{higher.value:+.2g} ({higher.low:+.1g} to {higher.high:+.1g})",
        f"{one.changed.value:.2%}",
    )


def _nats(estimate: Estimate) -> str:
    return f"{estimate.value:.2g} ({estimate.low:.1g} to {estimate.high:.1g})"


def _share(estimate: Estimate) -> str:
    """As `_percent`, in fewer columns."""
    value, low, high = (f"{100 * one:.4g}" for one in (estimate.value, estimate.low, estimate.high))
    return f"{value}% ({low} to {high})"


def _short(value: float, limit: float) -> str:
    """A number with one decimal, or from the limit on with none."""
    return f"{value:,.1f}" if value < limit else f"{value:,.0f}"


def _percent(estimate: Estimate) -> str:
    return f"{estimate.value:.2%} ({estimate.low:.1%} to {estimate.high:.1%})"
