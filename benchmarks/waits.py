"""How long Python waits for MLX: both sides' workers import this file, each with its own MLX."""

import time

import mlx.core as mx

_READS = ("item", "tolist", "__bool__", "__int__", "__float__")


class Waits:
    """Counts the seconds spent in evaluations from now on, until the end of the process.

    What is left of a frame is the host's part: Python, and building the graph. An array that numpy reads must be
    evaluated by `mx.eval` first, or the wait goes unseen.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        mx.eval = self._timed(mx.eval)
        for name in _READS:
            setattr(mx.array, name, self._timed(getattr(mx.array, name)))

    def _timed(self, function):
        def call(*arguments):
            start = time.perf_counter()
            try:
                return function(*arguments)
            finally:
                self.seconds += time.perf_counter() - start

        return call
