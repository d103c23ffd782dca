"""A recording of hours, of which only what is being played is in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from moshi_mlx.errors import AudioFileError


class LongRecording:
    """Stands for an array of (samples,) float32: it has a length, and slices, which are arrays.

    begin: gives the samples from the first on, in pieces of any length. samples: how many there are. name: for
    people. Slices that follow each other are decoded once; one that lies further back begins anew. For one thread
    at a time. Slicing raises AudioFileError if the file has become shorter, or cannot be read any more.
    """

    def __init__(self, begin: Callable[[], Iterator[np.ndarray]], samples: int, name: str) -> None:
        self._begin, self._samples, self._name = begin, samples, name
        self._pieces: Iterator[np.ndarray] = iter(())
        self._held, self._start = np.zeros(0, np.float32), samples  # and where it lies; all else is further back

    def __len__(self) -> int:
        return self._samples

    def __getitem__(self, where: slice) -> np.ndarray:
        start, stop, step = where.indices(self._samples)
        assert step == 1, "samples are given one after the other"
        if start >= stop:
            return np.zeros(0, np.float32)
        if start < self._start:
            self._pieces, self._held, self._start = self._begin(), np.zeros(0, np.float32), 0
        while self._start + len(self._held) < stop:
            piece = next(self._pieces, None)
            if piece is None:
                raise AudioFileError(f"{self._name} ended while it was read; is something changing it?")
            passed = min(start - self._start, len(self._held))
            self._held = np.concatenate([self._held[passed:], piece])
            self._start += passed
        self._held, self._start = self._held[start - self._start :], start
        return self._held[: stop - start].copy()

    def again(self) -> LongRecording:
        """Return the same recording for another reader, who is elsewhere in it."""
        return LongRecording(self._begin, self._samples, self._name)
