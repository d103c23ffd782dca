"""Admission: places for so many conversations, and the line of those who wait for one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Admission:
    """Places and their line, all on one event loop. size: how many places there are.

    Nobody gets a place before `open`: until the model is there, all wait.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.taken = 0
        self._is_open = False
        self._line: list[Place] = []

    @property
    def waiting(self) -> int:
        """How many wait for a place."""
        return len(self._line)

    @property
    def free(self) -> bool:
        """Whether the next who comes gets a place at once."""
        return self._is_open and self.taken < self.size

    def line_up(self) -> Place:
        """Wait for a place from now on, until `Place.leave`; at once, so that the line's limit is exact."""
        place = Place(self)
        self._line.append(place)
        self.advance()
        return place

    def open(self) -> None:
        """Give places from now on."""
        self._is_open = True
        self.advance()

    def leave(self, place: Place) -> None:
        """Free a place, or its place in the line."""
        if place in self._line:
            self._line.remove(place)
        else:
            self.taken -= 1
        self.advance()

    def advance(self) -> None:
        """Give what is free, and tell those who wait where they are."""
        while self._is_open and self._line and self.taken < self.size:
            self.taken += 1
            self._line.pop(0).called.set()
        for position, place in enumerate(self._line, 1):
            if self._is_open and place.moved and place.position != position:
                place.position = position
                place.moved(position)


class Place:
    """One who waits for a place, or has it, until `leave`."""

    def __init__(self, admission: Admission) -> None:
        self.position = 0
        self.moved: Callable[[int], None] | None = None
        self.called = asyncio.Event()
        self._admission: Admission | None = admission

    @property
    def waits(self) -> bool:
        """Whether it is not had yet."""
        return not self.called.is_set()

    async def wait(self, moved: Callable[[int], None]) -> None:
        """Wait for it. moved: called with the position in the line, 1 for the next, whenever it changes."""
        self.moved = moved
        if self._admission:
            self._admission.advance()
        await self.called.wait()

    def leave(self) -> None:
        """Give it up, at any time; once is enough."""
        admission, self._admission = self._admission, None
        if admission:
            admission.leave(self)
