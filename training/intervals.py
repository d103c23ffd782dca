"""Shares with the interval in which they lie."""

from dataclasses import dataclass
from typing import Any

NORMAL_95 = 1.959964  # 95 % of a normal distribution lie within so many standard deviations


@dataclass(frozen=True)
class Share:
    """How many of how many."""

    right: int
    of: int

    @property
    def value(self) -> float:
        return self.right / self.of

    @property
    def interval(self) -> tuple[float, float]:
        """The Wilson score interval of 95 %, which stays within 0 and 1 and has a width when all are right.

        Source: Wilson, 1927, Probable inference, the law of succession, and statistical inference.
        """
        square = NORMAL_95**2 / self.of
        middle = (self.value + square / 2) / (1 + square)
        half = (square * (self.value * (1 - self.value) + square / 4)) ** 0.5 / (1 + square)
        return max(0.0, middle - half), min(1.0, middle + half)

    def as_dict(self) -> dict[str, Any]:
        """For JSON, rounded to a tenth of a percent."""
        return {
            "right": self.right,
            "of": self.of,
            "share": round(self.value, 3),
            "interval": [round(end, 3) for end in self.interval],
        }


def share(values: list[bool]) -> Share:
    """The share of those that are true."""
    return Share(sum(values), len(values))
