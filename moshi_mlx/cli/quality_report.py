"""Qualities for people, as tables."""

from __future__ import annotations

from collections.abc import Sequence

from moshi_mlx.cli.tables import table
from moshi_mlx.quality.evaluator import Quality, StreamQuality
from moshi_mlx.quality.metrics import Estimate

CHIPS = ("M1", "M2", "M3", "M4", "M5", "M1 Pro", "M2 Pro", "M3 Pro", "M4 Pro", "M4 Max")
"""Whose frame times are shown; JSON has them all."""

SIZES = ("", "MB", "MB/frame", "KL", "KL text", "KL audio")
AGREEMENT = ("", "top-1 text", "top-1 audio", "changed", "hidden")
STREAMS = ("stream", "KL", "top-1", "perplexity", "higher by", "changed")


def quality_text(reference: str, conversations: int, qualities: Sequence[Quality]) -> str:
    """One row a candidate, in tables that fit 80 columns; the streams too where there is only one candidate."""
    first = qualities[0]
    parts = [
        f"{reference} and what it said in {conversations} conversation{'s' * (conversations != 1)}, "
        f"{first.steps} steps; 95 % intervals",
        table(map(_sizes, qualities), SIZES),
        "KL: divergence in nats a step; KL text and KL audio are its parts",
        "",
        table(map(_agreement, qualities), AGREEMENT),
        "top-1: steps with the same likeliest token; changed: draws that must differ;",
        "hidden: relative error of the temporal transformer's output",
    ]
    if len(qualities) == 1:
        parts += ["", table(map(_stream, first.streams), STREAMS)]
    for one in qualities:
        if one.same_codes is not None:
            parts.append(f"{one.candidate}: {one.same_codes:.1%} of the user's codes are the same")
    chips = [(one.candidate, *(f"{one.frame_ms[chip]:.1f}" for chip in CHIPS)) for one in qualities]
    parts += ["", "predicted ms a frame, full window", table(chips, ("", *CHIPS))]
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
        one.candidate,
        f"{one.bytes / 1e6:,.1f}",
        f"{one.bytes_per_frame / 1e6:,.1f}",
        _nats(one.kl),
        f"{one.kl_text.value:.2g}",
        f"{one.kl_audio.value:.2g}",
    )


def _agreement(one: Quality) -> tuple[str, ...]:
    return (
        one.candidate,
        _percent(one.top1_text),
        _percent(one.top1_audio),
        f"{one.changed.value:.2%}",
        f"{one.hidden_error.value:.2%}",
    )


def _stream(one: StreamQuality) -> tuple[str, ...]:
    higher = one.perplexity_delta
    return (
        one.stream,
        _nats(one.kl),
        _percent(one.top1),
        f"{one.reference_perplexity:.3f}",
        f"{higher.value:+.2g} ({higher.low:+.1g} to {higher.high:+.1g})",
        _percent(one.changed),
    )


def _nats(estimate: Estimate) -> str:
    return f"{estimate.value:.2g} ({estimate.low:.1g} to {estimate.high:.1g})"


def _percent(estimate: Estimate) -> str:
    return f"{estimate.value:.2%} ({estimate.low:.1%} to {estimate.high:.1%})"
