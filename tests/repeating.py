"""A session that says what it hears: for what only the way through the loop counts."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from moshi_mlx.runtime.session import Reply


class Repeating:
    """Its three parts as `converse` calls them, each on a thread of its own. work: done before every reply."""

    seed, sampling = None, None

    def __init__(self, work: Callable[[], None] = lambda: None) -> None:
        codec = SimpleNamespace(threaded=True)
        self.batch: Any = SimpleNamespace(
            moshi=SimpleNamespace(codec=codec), held_bytes=0, generate=self._generate
        )
        self._work = work

    def encode(self, frame: np.ndarray) -> np.ndarray:
        return frame

    def _generate(self, frames: dict[Any, np.ndarray]) -> dict[Any, np.ndarray]:
        self._work()
        return frames

    def decode(self, frame: np.ndarray) -> Reply:
        return Reply(frame, "", 0.0)
