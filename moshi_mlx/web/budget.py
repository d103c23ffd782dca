"""Budgets: what one client may ask for in a second, so that work that yields nothing costs its sender."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable

from moshi_mlx.errors import ProtocolError
from moshi_mlx.web.limits import Limits, Rate

_MANY = 4096  # keys that are remembered, those asked for last


class OverBudget(ProtocolError):
    """A client asked for more than its budget allows."""


class Budget:
    """One account that fills at a rate, up to its burst, and is full at first. clock: seconds."""

    def __init__(self, rate: Rate, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate, self._clock = rate, clock
        self._left, self._last = rate.burst, clock()

    def spend(self, amount: float = 1.0) -> bool:
        """Take this much, and return whether it was there."""
        self._fill()
        if amount > self._left:
            return False
        self._left -= amount
        return True

    @property
    def empty(self) -> bool:
        """Whether not even one is left."""
        self._fill()
        return self._left < 1.0

    @property
    def full(self) -> bool:
        """Whether nothing of it is spent."""
        self._fill()
        return self._left >= self.rate.burst

    def _fill(self) -> None:
        now = self._clock()
        self._left = min(self.rate.burst, self._left + (now - self._last) * self.rate.a_second)
        self._last = now


class Budgets:
    """An account for every key, such as a client's address; of too many, the longest unused is forgotten."""

    def __init__(self, rate: Rate, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._clock = rate, clock
        self._of: dict[Hashable, Budget] = {}

    def __getitem__(self, key: Hashable) -> Budget:
        budget = self._of.pop(key, None) or Budget(self._rate, self._clock)
        self._of[key] = budget  # as the latest
        if len(self._of) > _MANY:
            del self._of[next(iter(self._of))]
        return budget


class ClientBudget:
    """What one client may send, by the fields of the same names of `Limits`. All methods raise OverBudget."""

    def __init__(self, limits: Limits) -> None:
        self._messages, self._bytes = Budget(limits.messages), Budget(limits.bytes)
        self._work, self._controls = Budget(limits.work), Budget(limits.controls)
        self._ignored = Budget(limits.ignored)

    def message(self, size: int) -> None:
        """Pay for a message of so many bytes."""
        if not self._messages.spend():
            most = self._messages.rate.a_second
            raise OverBudget(f"more than {most:g} messages a second came: send audio in pieces of 20 ms or more")
        if not self._bytes.spend(size):
            most = self._bytes.rate.a_second
            raise OverBudget(f"more than {most:g} bytes a second came: send audio as fast as it is spoken")

    def work(self, units: int) -> None:
        """Pay for reading audio."""
        if not self._work.spend(units):
            most = self._work.rate.a_second
            raise OverBudget(f"more than {most:g} pages and packets a second came: send pages of 20 ms or more")

    def control(self) -> None:
        """Pay for a new beginning."""
        if not self._controls.spend():
            most = self._controls.rate.a_second
            raise OverBudget(f"more than {most:g} new conversations a second were asked for: ask for one and wait")

    def ignored(self) -> None:
        """Pay for a message of a kind that is ignored, or empty."""
        if not self._ignored.spend():
            most = self._ignored.rate.a_second
            raise OverBudget(f"more than {most:g} messages a second came that are neither audio nor a control")
