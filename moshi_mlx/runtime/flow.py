"""Flow control: bounded queues between threads, and which frames the model gets when not all can be answered.

Queues are bounded and closable and count what they drop; nothing polls. The model reads from a `FrameQueue`, whose
governor learns how long a frame takes and says which ones go unheard: `LagGovernor` where frames are answered as
fast as the model can, `PacedGovernor` where they are answered at the pace of the audio.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from moshi_mlx.frames import FRAME_SECONDS

T = TypeVar("T")

LAG_LIMIT = 0.4  # seconds from mouth to ear
_AHEAD = 2  # frames handed over and not answered, at most: one in the model, one on its way through the codec
_SMOOTHING = 0.5  # of the time a frame takes: half of it is the last frame's
_SLOWEST = 2 * FRAME_SECONDS  # a single hiccup counts as no more than this
_FORGOTTEN = 2.0  # seconds after which a frame without an answer is no longer waited for
_PACED_AHEAD = 2  # frames on their way through the stages, at most, where answers come at the pace of the audio
_BEHIND = 12  # chunks in a row that one frame too many awaits, before that is taken for lasting
_CHUNKS = 8  # that are remembered
_LONGEST_CHUNK = 26  # frames: 2 s, which begin and end within a frame
_QUEUE_FRAMES = 40  # 3.2 seconds: the longest chunk and the limit; the governor drops before


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


class HeardFrame(NamedTuple):
    """One frame of the microphone."""

    pcm: np.ndarray  # (1920,) float32
    captured: float  # time at which its last sample came, in seconds of the clock in use
    silent: bool


class LagGovernor:
    """Decides which frames the model gets and which are dropped, so that answers keep within `limit` seconds.

    It is told of every frame handed over (`taken`) and of every answer (`answered`), learns from them how long a
    frame takes (`pace`), and predicts when the next ones would be heard. When the model keeps up it drops nothing.
    All times are seconds of one clock, given by the caller; `overhead` is what a frame costs besides waiting and
    model: its own length, the devices, the cushion before the speaker.
    """

    def __init__(self, limit: float = LAG_LIMIT, overhead: float = FRAME_SECONDS) -> None:
        self.limit = limit
        self.overhead = overhead
        self.pace = FRAME_SECONDS
        self._unanswered: deque[tuple[float, float]] = deque()  # captured, taken
        self._last_answer = 0.0

    def arrived(self, now: float) -> None:
        """Note that a frame has come."""

    def ran_dry(self) -> None:
        """Note that no frame was there when one was wanted."""

    def held_until(self, frame: HeardFrame) -> float:
        """Return the time until which the next frame is held back."""
        return frame.captured

    def taken(self, captured: float, now: float) -> None:
        """Note that a frame went to the model."""
        self._unanswered.append((captured, now))

    def answered(self, now: float) -> float:
        """Note that the oldest frame taken has its answer; return the seconds since it was captured."""
        if not self._unanswered:
            return 0.0
        captured, _ = self._unanswered[0]
        took = min(now - self._began(), _SLOWEST)
        self.pace += _SMOOTHING * (took - self.pace)
        self._unanswered.popleft()
        self._last_answer = now
        return now - captured

    def may_take(self, frame: HeardFrame, now: float) -> bool:
        """Return whether to hand over this frame now; held back it can still be dropped."""
        if self._unanswered and now - self._unanswered[0][1] > _FORGOTTEN:
            self._unanswered.clear()
        return not self._unanswered or (
            len(self._unanswered) < _AHEAD and self._lag(0, frame.captured, now) <= self.limit
        )

    def drop(self, waiting: Sequence[HeardFrame], now: float) -> int | None:
        """Return which of the waiting frames to drop, None for none: the oldest silent one, else the oldest.

        The newest is dropped only for another that is still in time, so that something is heard whatever happens.
        """
        last = len(waiting) - 1
        if last < 1 or self._lag(last, waiting[last].captured, now) <= self.limit:
            return None
        silent = next((index for index, frame in enumerate(waiting) if frame.silent), 0)
        if silent == last and self._lag(last - 1, waiting[last - 1].captured, now) > self.limit:
            return 0
        return silent

    def _lag(self, before: int, captured: float, now: float) -> float:
        """Seconds from capture to ear of a frame that has `before` others waiting before it."""
        free = now  # when the model is free for the first that waits
        if self._unanswered:
            free = max(now, self._began() + self.pace) + (len(self._unanswered) - 1) * self.pace
        return free + (before + 1) * self.pace - captured + self.overhead

    def _began(self) -> float:
        """When the work on the oldest unanswered frame began."""
        return max(self._last_answer, self._unanswered[0][1])


class PacedGovernor(LagGovernor):
    """For frames that are answered at the pace of the audio, however fast the model is: no queue empties itself.

    Clients deliver audio in chunks, of 20 ms or of two seconds. The chunk length is measured: the second largest
    of the latest eight (the largest while there are fewer than three), so that a single stall is none.
    What a client delivers may wait as long as its chunks are, and `limit` besides. Where chunks are longer than a
    frame and the client has run dry, its next frame is held back for one frame, so that the last frame of a chunk
    is never awaited. Delay that a stall leaves goes when there is silence: silent frames are dropped
    while some of the chunk before still wait when a chunk comes.
    """

    def __init__(self, limit: float = LAG_LIMIT) -> None:
        super().__init__(limit)
        self._patience = limit
        self._chunks: deque[int] = deque(maxlen=_CHUNKS)  # frames in each, without the one that is coming
        self._coming = 0  # frames of the chunk that is coming
        self._came = -math.inf  # when the last frame came
        self._behind = 0  # chunks in a row that met frames of the one before
        self._dry = True  # the frame that was wanted last was not there

    @property
    def chunk(self) -> int:
        """Frames that the client delivers at once."""
        largest = sorted([*self._chunks, self._coming], reverse=True)
        return min(largest[1 if len(largest) > 2 else 0], _LONGEST_CHUNK)

    def arrived(self, now: float) -> None:
        """Note that a frame has come from the client."""
        if now - self._came < 0.5 * FRAME_SECONDS:
            self._coming += 1
        else:
            if self._coming:
                self._chunks.append(self._coming)
            self._coming = 1
        self._came = now
        self.limit = self._patience + (self.chunk - 1) * FRAME_SECONDS

    def ran_dry(self) -> None:
        """Note that the client's frame was not there when it was wanted."""
        self._dry = True

    def held_until(self, frame: HeardFrame) -> float:
        """Return the time until which the next frame is held back."""
        return frame.captured + (FRAME_SECONDS if self._dry and self.chunk > 1 else 0.0)

    def taken(self, captured: float, now: float) -> None:
        """Note that a frame went to the model."""
        super().taken(captured, now)
        self._dry = False

    def answered(self, now: float) -> float:
        """As of `LagGovernor`, but the pace is never faster than the audio's."""
        since = super().answered(now)
        self.pace = max(self.pace, FRAME_SECONDS)
        return since

    def may_take(self, frame: HeardFrame, now: float) -> bool:
        """Return whether to hand over this frame now, late or not."""
        if now < self.held_until(frame):
            return False
        # What is too late is dropped from the queue; a frame held back would count as missing.
        return super().may_take(frame, now) or len(self._unanswered) < _PACED_AHEAD

    def drop(self, waiting: Sequence[HeardFrame], now: float) -> int | None:
        """Return which of the waiting frames to drop: one too late, or a silent one while a backlog lasts."""
        too_late = super().drop(waiting, now)
        if too_late is not None:
            return too_late
        left = len(waiting) - self._coming  # of the chunks before
        if self.chunk > 1:
            left -= 2  # the frame held back, and the part of a frame by which chunks differ
        if self._coming == 1:
            self._behind = self._behind + 1 if left > 0 else 0
        if left > 1 or (left > 0 and self._behind > _BEHIND):
            return next((index for index, frame in enumerate(waiting) if frame.silent), None)
        return None


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
        super().__init__(_QUEUE_FRAMES, drop_oldest=True, changed=changed)
        self._governor = governor
        self._clock = clock

    @property
    def next_captured(self) -> float | None:
        """The time of capture of the frame that can be taken now, None if there is none."""
        with self._changed:
            return self._items[0].captured if self._ready() else None

    def answered(self) -> float:
        """Note that the oldest frame taken has its answer; return the seconds since it was captured."""
        with self._changed:
            since = self._governor.answered(self._clock())
            self._changed.notify_all()
        return since

    @property
    def held_until(self) -> float | None:
        """The time at which a frame that waits, held back, can be taken; None if there is none such."""
        with self._changed:
            until = self._governor.held_until(self._items[0]) if self._items else -math.inf
            return until if until > self._clock() else None

    def ran_dry(self) -> None:
        """Note that a frame was wanted and none was there."""
        self._governor.ran_dry()

    def clear(self) -> None:
        """Forget what came while nobody listened; it does not count as dropped."""
        with self._changed:
            self._items.clear()
            self.dropped = 0

    def _make_room(self, item: HeardFrame) -> bool:
        super()._make_room(item)
        self._governor.arrived(item.captured)
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
