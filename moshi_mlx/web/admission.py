"""Admission: places for so many conversations, and the line of those who wait for one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager


class Admission:
    """Places and their line, all on one event loop. size: how many places there are."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.taken = 0
        self._line: list[_Waiting] = []

    @property
    def waiting(self) -> int:
        """How many wait for a place."""
        return len(self._line)

    @asynccontextmanager
    async def place(self, moved: Callable[[int], None]) -> AsyncIterator[None]:
        """Hold a place while the block runs, as soon as there is one; cancelling gives it up at any time.

        moved: called with the position in the line, 1 for the next, whenever it changes.
        """
        one = _Waiting(moved)
        self._line.append(one)
        self._advance()
        try:
            await one.called.wait()
            yield
        finally:
            if one in self._line:
                self._line.remove(one)
            else:
                self.taken -= 1
            self._advance()

    def _advance(self) -> None:
        while self._line and self.taken < self.size:
            self.taken += 1
            self._line.pop(0).called.set()
        for position, one in enumerate(self._line, 1):
            if one.position != position:
                one.position = position
                one.moved(position)


class _Waiting:
    def __init__(self, moved: Callable[[int], None]) -> None:
        self.moved = moved
        self.position = 0
        self.called = asyncio.Event()
