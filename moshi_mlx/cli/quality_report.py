"""Qualities for people, as tables."""

from __future__ import annotations

from collections.abc import Sequence

from moshi_mlx.cli.tables import table
from moshi_mlx.quality.evaluator import Quality
from moshi_mlx.quality.metrics import Estimate

CHIPS = ("M1", "M2", "M3", "M4", "M5", "M1 Pro", "M2 Pro", "M3 Pro", "M4 Pro", "M4 Max")
"""Whose frame times are shown; JSON has them all."""

HEADINGS = ("", "MB", "MB/frame", "KL", "text", "audio", "top-1 text", "top-1 audio", "changed", "hidden")


def quality_text(reference: str, conversations: int, qualities: Sequence[Quality]) -> str:
    """One line per candidate; the streams too where there is only one."""
    first = qualities[0]
    parts = [
        f"{reference} and what it said in {conversations} conversation{'s' * (conversations != 1)}, "
        f"{first.steps} steps; KL in nats a step, 95 % intervals",
        table(map(_row, qualities), HEADINGS),
        "",
        "text and audio: the parts of KL. top-1: steps with the same likeliest token. changed: draws that must "
        "come out different.",
        "hidden: relative error of the temporal transformer's output.",
    ]
    if len(qualities) == 1:
        parts += ["", _streams(first)]
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


def _row(one: Quality) -> tuple[object, ...]:
    return (
        one.candidate,
        f"{one.bytes / 1e6:,.1f}",
        f"{one.bytes_per_frame / 1e6:,.1f}",
        _nats(one.kl),
        f"{one.kl_text.value:.2g}",
        f"{one.kl_audio.value:.2g}",
        _percent(one.top1_text),
        _percent(one.top1_audio),
        f"{one.changed.value:.2%}",
        f"{one.hidden_error.value:.2%}",
    )


def _streams(one: Quality) -> str:
    rows = [
        (
            stream.stream,
            _nats(stream.kl),
            _percent(stream.top1),
            f"{stream.reference_perplexity:.3f}",
            f"{stream.perplexity_delta.value:+.2g} ({stream.perplexity_delta.low:+.1g} to "
            f"{stream.perplexity_delta.high:+.1g})",
            _percent(stream.changed),
        )
        for stream in one.streams
    ]
    return table(rows, ("stream", "KL", "top-1", "perplexity", "change of it", "changed draws"))


def _nats(estimate: Estimate) -> str:
    return f"{estimate.value:.2g} ({estimate.low:.1g} to {estimate.high:.1g})"


def _percent(estimate: Estimate) -> str:
    return f"{estimate.value:.2%} ({estimate.low:.1%} to {estimate.high:.1%})"
