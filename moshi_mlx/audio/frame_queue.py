"""The queue between the microphone and the model."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from moshi_mlx.audio.lag import HeardFrame, LagGovernor
from moshi_mlx.queues import BoundedQueue

_SIZE = 25  # frames, 2 seconds; the governor drops long before


class FrameQueue(BoundedQueue[HeardFrame]):
    """Frames for a model that must not fall behind: `governor` decides which ones it gets.

    `answered` has to be called for every frame that was taken. clock: seconds. changed: as in `BoundedQueue`.
    """

    def __init__(
        self,
        governor: LagGovernor,
        clock: Callable[[], float] = time.perf_counter,
        changed: threading.Condition | None = None,
    ) -> None:
        super().__init__(_SIZE, drop_oldest=True, changed=changed)
        self._governor = governor
        self._clock = clock

    @property
    def next_captured(self) -> float | None:
        """When the frame was captured that can be taken now; None if none can."""
        with self._changed:
            return self._items[0].captured if self._ready() else None

    def answered(self) -> float:
        """The oldest frame that was taken has its answer. Returns the seconds since it was captured."""
        with self._changed:
            since = self._governor.answered(self._clock())
            self._changed.notify_all()
        return since

    def clear(self) -> None:
        """Begin: what came until now, while nobody listened, is forgotten and does not count as dropped."""
        with self._changed:
            self._items.clear()
            self.dropped = 0

    def _make_room(self, item: HeardFrame) -> bool:
        super()._make_room(item)
        waiting = [*self._items, item]
        while (index := self._governor.drop(waiting, self._clock())) is not None:
            if index == len(self._items):
                return False
            del waiting[index], self._items[index]
            self.dropped += 1
        return True

    def _ready(self) -> bool:
        return bool(self._items) and self._governor.may_take(self._items[0], self._clock())

    def _take(self) -> HeardFrame:
        frame = super()._take()
        self._governor.taken(frame.captured, self._clock())
        return frame
