"""Places for so many conversations, and the line of those who wait for one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager


class Seats:
    """All on one event loop."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.taken = 0
        self._line: list[_Ticket] = []

    @property
    def waiting(self) -> int:
        return len(self._line)

    @asynccontextmanager
    async def seat(self, moved: Callable[[int], None]) -> AsyncIterator[None]:
        """Hold a place while the block runs, as soon as there is one; cancelling gives it up at any time.

        moved: told the position in the line, 1 for the next, whenever it changes.
        """
        ticket = _Ticket(moved)
        self._line.append(ticket)
        self._advance()
        try:
            await ticket.called
            yield
        finally:
            if ticket.seated:
                self.taken -= 1
            else:
                self._line.remove(ticket)
            self._advance()

    def _advance(self) -> None:
        while self._line and self.taken < self.size:
            first = self._line.pop(0)
            self.taken += 1
            first.seated = True
            if not first.called.done():  # its client is leaving this very moment
                first.called.set_result(None)
        for position, ticket in enumerate(self._line, 1):
            if ticket.position != position:
                ticket.position = position
                ticket.moved(position)


class _Ticket:
    def __init__(self, moved: Callable[[int], None]) -> None:
        self.moved = moved
        self.position = 0
        self.seated = False
        self.called: asyncio.Future[None] = asyncio.get_running_loop().create_future()
