"""How Nano's figures are made: shares with their intervals."""

import pytest

from training.intervals import Share, share


@pytest.mark.parametrize(
    ("right", "of", "low", "high"),
    # Source: Newcombe, 1998, Two-sided confidence intervals for the single proportion, table I, method 3
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_a_share_has_wilsons_interval(right: int, of: int, low: float, high: float) -> None:
    assert Share(right, of).interval == pytest.approx((low, high), abs=1e-4)


def test_a_share_counts_what_is_true() -> None:
    assert share([True, False, True, True]) == Share(3, 4)
    assert Share(3, 4).as_dict() == {"right": 3, "of": 4, "share": 0.75, "interval": [0.301, 0.954]}
