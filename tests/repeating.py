"""A session that says what it hears: for what only the way through the loop counts."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from moshi_mlx.runtime.session import Reply


class Repeating:
    """Its three parts as `converse` calls them, each on a thread of its own. work: done before every reply."""

    def __init__(self, work: Callable[[], None] = lambda: None) -> None:
        codec = SimpleNamespace(threaded=True)
        self.batch: Any = SimpleNamespace(moshi=SimpleNamespace(codec=codec), held_bytes=0)
        self._work = work

    def encode(self, frame: np.ndarray) -> np.ndarray:
        return frame

    def generate(self, frame: np.ndarray) -> np.ndarray:
        self._work()
        return frame

    def decode(self, frame: np.ndarray) -> Reply:
        return Reply(frame, "", 0.0)
