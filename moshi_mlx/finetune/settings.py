"""How a model is trained: every knob, with the values that Kyutai published for Moshi 7B where they fit all."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from moshi_mlx.errors import ConfigError

PUBLISHED_RATE = 2e-6
"""The learning rate of Kyutai's recipe for an adapter of Moshi 7B, batches of 16 windows of 100 s."""


@dataclass(frozen=True)
class Settings:
    """The knobs of a run. Raises ConfigError for a value that cannot be.

    Source: moshi-finetune, example/moshi_7B.yaml and finetune/args.py.
    """

    steps: int = 2000
    batch: int = 1  # windows a step
    rows: int | None = None  # windows in memory at once; all of a batch unless given
    seconds: float = 100.0  # of a window
    lr: float = PUBLISHED_RATE  # the highest
    warm_up: float = 0.05  # share of the steps in which the rate rises
    weight_decay: float = 0.1
    clip: float = 1.0  # norm of all gradients together
    full: bool = False  # train every weight instead of an adapter
    lora_rank: int = 128
    lora_scaling: float = 2.0
    semantic_weight: float = 100.0  # of the first codebook beside each other one
    padding_weight: float = 0.5  # of text tokens that are no words
    checkpointing: bool = True  # less memory, a third more time
    seed: int = 0
    save_every: int = 100  # steps
    keep: int = 3  # numbered checkpoints
    eval_every: int = 100  # steps
    eval_windows: int = 40  # at most
    sample: int | None = None  # steps between answers to a recording; none unless given

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "lora_rank", "save_every", "keep", "eval_every", "eval_windows"):
            self._check(name, int, getattr(self, name) >= 1, "a whole number of at least 1")
        self._check("seed", int, 0 <= self.seed < 2**32, "a whole number from 0 to 4294967295")
        if self.sample is not None:
            self._check("sample", int, self.sample >= 1, "a whole number of at least 1")
        if self.rows is not None:
            self._check("rows", int, self.rows >= 1 and self.batch % self.rows == 0, f"a divisor of {self.batch}")
        for name in ("seconds", "lr", "clip", "lora_scaling", "semantic_weight"):
            self._check(name, float, 0 < getattr(self, name) < math.inf, "a number above 0")
        for name in ("weight_decay", "padding_weight"):
            self._check(name, float, 0 <= getattr(self, name) < math.inf, "a number of at least 0")
        self._check("warm_up", float, 0 <= self.warm_up <= 1, "a share, 0 to 1")

    def _check(self, name: str, kind: type, fits: bool, needs: str) -> None:
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, int if kind is int else (int, float)) or not fits:
            raise ConfigError(f"setting {name!r} is {value!r}; it must be {needs}")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str) -> Settings:
        """Read settings. where: they are from, for messages. Raises ConfigError for one that is not there."""
        known = {field.name for field in fields(cls)}
        if unknown := sorted(values.keys() - known):
            raise ConfigError(f"{where} has no setting {unknown[0]!r}; there are {', '.join(sorted(known))}")
        for name, value in values.items():
            if isinstance(getattr(cls, name), bool) and not isinstance(value, bool):
                raise ConfigError(f"setting {name!r} is {value!r}; true or false expected")
            if not isinstance(value, int | float | None):
                raise ConfigError(f"setting {name!r} is {value!r}; a number expected")
        return cls(**values)
