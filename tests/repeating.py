"""A session that says what it hears: for what only the way through the loop counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np

from moshi_mlx.runtime.reply import Reply


class Repeating:
    """A session, and as `batch` the batch of it alone, whose parts `converse` calls on a thread each.

    work: done before every reply.
    """

    seed, sampling = None, None

    def __init__(self, work: Callable[[], None] = lambda: None) -> None:
        self.batch: Any = self
        self.moshi = SimpleNamespace(codec=SimpleNamespace(threaded=True))
        self.held_bytes = 0
        self._work = work

    def encode(self, frames: Mapping[Any, np.ndarray]) -> Callable[[], Mapping[Any, np.ndarray]]:
        return lambda: frames

    def generate(self, frames: Mapping[Any, np.ndarray]) -> Mapping[Any, np.ndarray]:
        self._work()
        return frames

    def decode(self, frames: Mapping[Any, np.ndarray]) -> Callable[[], Mapping[Any, Reply]]:
        return lambda: {session: Reply(frame, "", 0.0) for session, frame in frames.items()}
