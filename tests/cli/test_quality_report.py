"""The tables of quality on paper: they fit, and the first line says it in words."""

from dataclasses import replace

import pytest

from moshi_mlx.cli.quality_report import CHIPS, WIDTH, grade, quality_text
from moshi_mlx.quality.evaluator import Quality, StreamQuality
from moshi_mlx.quality.metrics import Estimate

WIDE = Estimate(0.00035123, 0.00010412, 0.00091234)
ALL = Estimate(0.99871, 0.98812, 1.0)
STREAM = StreamQuality("code 15", WIDE, ALL, 1234.567, Estimate(-0.00123, -0.0041, 0.0031), ALL)


def figures(candidate: str, changed: float = 0.0) -> Quality:
    """Moshi's, and as wide as they come."""
    return Quality(
        candidate, 12_345, 15_376_300_000, 16_949_100_000, dict.fromkeys(CHIPS, 251.37), WIDE, WIDE, WIDE, ALL,
        ALL, Estimate(changed, changed, changed), Estimate(0.0762, 0.07, 0.08), 0.99, (STREAM,) * 17,
    )  # fmt: skip


@pytest.mark.parametrize("count", [1, 4])
def test_every_line_fits_a_terminal(count: int) -> None:
    names = ["q4", "kyutai/moshika-pytorch-bf16+kv8", "mxfp4+codec=mlx", "q4"][-count:]
    text = quality_text("moshiko-bf16", 4, [figures(name) for name in names])
    assert max(map(len, text.splitlines())) <= WIDTH
    assert ("code 15" in text) == (count == 1)
    assert text.count("\nq4 ") == 3 * names.count("q4"), "also what is given twice"
    assert ("#2 is kyutai/moshika-pytorch-bf16+kv8" in text) == (count == 4)


@pytest.mark.parametrize(
    ("changed", "word"),
    [(0.0, "the same"), (0.002, "nearly the same"), (0.03, "not quite the same"), (0.3, "something else")],
)
def test_how_near_a_candidate_is_is_said_in_words(changed: float, word: str) -> None:
    assert grade(figures("q4", changed)) == word
    both = quality_text("a", 1, [figures("q8"), figures("q4", changed)])
    first = "q8, q4: the same" if word == "the same" else f"q8: the same; q4: {word}"
    assert both.splitlines()[0] == first
    assert grade(replace(figures("q4"), changed=Estimate(1.0, 1.0, 1.0))) == "something else"
