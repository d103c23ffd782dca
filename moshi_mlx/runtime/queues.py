"""The one kind of queue between threads: bounded, closable, and honest about what it drops. Nothing polls."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class QueueClosed(Exception):
    """Something was put into a queue whose reader has gone."""


class BoundedQueue(Generic[T]):
    """First in, first out, for one writer thread and one reader thread.

    When it is full, `put` waits (a file can wait) or, with `drop_oldest`, makes room and counts what it dropped
    (a microphone cannot wait). Closing is a flag, not an item: what is queued is still delivered, and closing a
    full queue loses nothing. changed: a condition of the reader's own, who waits for several queues at once and
    takes with `take_now`.
    """

    def __init__(self, size: int, drop_oldest: bool = False, changed: threading.Condition | None = None) -> None:
        self._items: deque[T] = deque()
        self._size = size
        self._drop_oldest = drop_oldest
        self._changed = changed or threading.Condition()
        self._closed = False
        self.dropped = 0
        self.deepest = 0  # the most items that ever waited

    def put(self, item: T) -> None:
        """Add an item. Raises QueueClosed if the queue was closed."""
        with self._changed:
            if not self._make_room(item):
                self.dropped += 1
                return
            self._changed.wait_for(lambda: self._closed or len(self._items) < self._size)
            if self._closed:
                raise QueueClosed
            self._items.append(item)
            self.deepest = max(self.deepest, len(self._items))
            self._changed.notify_all()

    def close(self) -> None:
        """No more items will come; waiting readers and writers are woken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def abandon(self) -> None:
        """Close and throw away what is queued: the reader gives up."""
        with self._changed:
            self._items.clear()
        self.close()

    def __iter__(self) -> Iterator[T]:
        """Items as they come, until the queue is closed and empty."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._ready())
                if not self._items:
                    return
                item = self._take()
                self._changed.notify_all()
            yield item

    def take_now(self) -> T | None:
        """The next item, None while there is none that the reader may have."""
        with self._changed:
            if not self._items or not self._ready():
                return None
            item = self._take()
            self._changed.notify_all()
            return item

    def __len__(self) -> int:
        return len(self._items)

    # What a special queue may do its own way; called with the condition held.

    def _make_room(self, item: T) -> bool:
        """Drop what has to give way to `item`. Returns False if the item itself does."""
        if self._drop_oldest and len(self._items) >= self._size:
            self._items.popleft()
            self.dropped += 1
        return True

    def _ready(self) -> bool:
        """Whether the reader may have an item now."""
        return bool(self._items)

    def _take(self) -> T:
        """The item for the reader."""
        return self._items.popleft()
