"""What a run tells of its steps, its tests and what the model says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moshi_mlx.finetune.trainer import Losses


@dataclass(frozen=True)
class Report:
    """What a step, or a test, gave. left: seconds to the end."""

    kind: str  # "step", "test", or "replay" for a test of replayed recordings
    step: int
    losses: Losses
    rate: float = 0.0  # learning rate
    tokens_per_second: float = 0.0
    left: float = 0.0
    memory: int = 0  # bytes at most so far

    def as_dict(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        common = {"event": self.kind, "step": self.step, "loss": self.losses.total, **self.losses.parts}
        if self.kind != "step":
            return common
        return {
            **common,
            "norm": self.losses.norm,
            "lr": self.rate,
            "tokens_per_second": round(self.tokens_per_second, 1),
            "left": round(self.left, 1),
            "memory": self.memory,
        }


@dataclass(frozen=True)
class Sample:
    """What the model answered after a step. file: stereo, left the model. text: its words."""

    step: int
    file: Path
    text: str
    kind = "sample"

    def as_dict(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        return {"event": self.kind, "step": self.step, "file": str(self.file), "text": self.text}
