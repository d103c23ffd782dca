"""A stage of work beside the calling thread: the same code inline or on a thread of its own.

Errors of a stage's thread are raised in the thread that uses the stage.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from moshi_mlx.frames import FRAME_SECONDS
from moshi_mlx.runtime.flow import BoundedQueue, QueueClosed

T = TypeVar("T")
R = TypeVar("R")

AT_ONCE = 0.001  # seconds; an item that comes sooner had been waiting
JOIN_SECONDS = 2.0  # a thread that hangs in foreign code must not hang the program; it is a daemon


@contextmanager
def mapped(
    name: str, function: Callable[[T], R], items: Iterable[T], threaded: bool, size: int, depths: dict[str, int]
) -> Iterator[Iterable[R]]:
    """`map(function, items)`, computed ahead on a thread if `threaded`, at most `size` results waiting.

    Leaving the context early drops what is waiting; the thread ends after its current item. The deepest the queue
    got is left in `depths[name]`.
    """
    if not threaded:
        yield map(function, items)
        return

    def work() -> None:
        for item in items:
            worker.queue.put(function(item))

    worker = _Worker[R](name, work, size)
    worker.start()
    try:
        yield worker.results()
    finally:
        worker.stop(depths)


@contextmanager
def called(
    name: str, function: Callable[[T], None], threaded: bool, size: int, depths: dict[str, int]
) -> Iterator[Callable[[T], None]]:
    """`function`, called in order on a thread if `threaded`, at most `size` calls waiting.

    Leaving the context waits for all calls, but drops the waiting ones when an error leaves it.
    """
    if not threaded:
        yield function
        return

    def work() -> None:
        for item in worker.queue:
            function(item)

    def put(item: T) -> None:
        try:
            worker.queue.put(item)
        except QueueClosed:
            worker.finish()
            raise

    worker = _Worker[T](name, work, size)
    worker.start()
    try:
        yield put
        worker.finish()
    finally:
        worker.stop(depths)


Spare = Callable[[float], None]
"""What is done between two frames; told until when it may work, as `time.perf_counter` counts."""


class SpareTime(Generic[T]):
    """Passes the items of a live stream on, and gives the time between them to `spare`.

    `done` is called, on the thread that owns MLX, after the work on each item. What is left until the next frame
    should come is spare, if the item had been waited for and none has come since: who is behind has no time.
    """

    def __init__(self, items: Iterable[T], spare: Spare | None) -> None:
        self._items, self._spare = items, spare
        self._came = self._done = 0
        self._time = self._waited = 0.0  # when the latest came, and for how many seconds it was waited

    def __iter__(self) -> Iterator[T]:
        """Yield the items."""
        asked = time.perf_counter()
        for item in self._items:
            self._time = time.perf_counter()
            self._waited = self._time - asked
            self._came += 1
            yield item
            asked = time.perf_counter()

    def done(self) -> None:
        """Let `spare` work if there is time."""
        self._done += 1
        if self._spare and self._came == self._done and self._waited > AT_ONCE:
            self._spare(self._time + FRAME_SECONDS)


class _Worker(Generic[T]):
    """A thread, its queue, and the error that ended it."""

    def __init__(self, name: str, work: Callable[[], None], size: int) -> None:
        self.name = name
        self.queue: BoundedQueue[T] = BoundedQueue(size)
        self._error: BaseException | None = None
        self._work = work
        self._thread = threading.Thread(target=self._run, name=f"moshi-{name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        try:
            self._work()
        except QueueClosed:
            pass  # the reader has gone, nobody waits for more
        except BaseException as error:  # carried to the thread that uses the stage, whatever it is
            self._error = error
        finally:
            self.queue.close()

    def results(self) -> Iterator[T]:
        yield from self.queue
        self._raise()

    def finish(self) -> None:
        """Wait until the work is done; raise what ended it early."""
        self.queue.close()
        self._thread.join()
        self._raise()

    def stop(self, depths: dict[str, int]) -> None:
        self.queue.abandon()
        self._thread.join(JOIN_SECONDS)
        depths[self.name] = self.queue.deepest

    def _raise(self) -> None:
        if self._error:
            error, self._error = self._error, None
            raise error
