"""Codes that both sides of `finetune_vs_torch.py` learn from, and answering for steps; numpy alone."""

import json
import resource
import sys
from collections.abc import Callable

import numpy as np


def made_up(step: int, batch: int, frames: int, card: int, text_card: int) -> np.ndarray:
    """The windows of a step, (B, 17, T) int64: two in three text tokens are padding."""
    random = np.random.RandomState(step)
    codes = random.randint(0, card, (batch, 17, frames))
    words = random.randint(0, text_card, (batch, frames))
    codes[:, 0] = np.where(random.rand(batch, frames) < 0.67, 3, words)
    return codes


def peak_bytes() -> int:
    """The most memory that this process has had resident."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


def serve(step: Callable[[int], dict[str, float]]) -> None:
    """Take as many steps as each line of stdin says, and answer what each gave."""
    number = 0
    for line in sys.stdin:
        found: dict[str, list[float]] = {}
        for _ in range(int(line)):
            for name, value in step(number).items():
                found.setdefault(name, []).append(value)
            number += 1
        print(json.dumps(found), flush=True)
