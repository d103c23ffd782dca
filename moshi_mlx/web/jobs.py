"""What requests want of the thread that owns MLX: done a slice at a time, so that nobody's conversation waits.

A job is a generator that is stepped on that thread: a frame or a pass of a model a step. Between the ticks of
conversations it gets what time they leave; where nobody talks, all of it. What it yields goes to the event loop.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from typing import Any, Generic, TypeVar

import numpy as np

T = TypeVar("T")

MARGIN = 0.005  # seconds before the next tick in which nothing is begun
ADAPTED = 0.2  # share of the latest time in the estimate of what a slice takes,
OUTLIER = 2.0  # in which it counts as no more than so many times the estimate
FORGOTTEN = 0.01  # share by which the estimate falls when it leaves no time: it may be wrong
FIRST = 3  # slices of a kind in a job that say nothing of the others: they compile, and prepare what is to be done
UNREAD = 250  # results that may wait for their reader, 20 seconds of speech; then a job pauses


class QueueFull(Exception):
    """There are as many jobs as there may be. of_one: of one source."""

    def __init__(self, of_one: bool) -> None:
        super().__init__()
        self.of_one = of_one


class Job(Generic[T]):
    """One request's work; an asynchronous iterator of what it yields, but for None, on the event loop.

    steps: the work, to be stepped on the thread. kind: of its slices: those of one kind take about as long.
    ready: whether there is something to do; who makes it so calls `wake`.
    What `steps` raises is raised by the iteration. `slices` counts those that were done.
    """

    def __init__(
        self,
        jobs: Jobs,
        steps: Iterator[T | None],
        kind: Callable[[], str],
        source: str,
        unread: int,
        ready: Callable[[], bool],
    ) -> None:
        self.kind, self.source = kind, source
        self._ready = ready
        self.slices = 0
        self._jobs, self._steps, self._most = jobs, steps, unread
        self._loop = asyncio.get_running_loop()
        self._latest, self._in_a_row = "", 0  # kind of the slices, and how many of it there have been
        self._results: deque[T] = deque()  # not read yet
        self.cancelled = self._ended = False
        self._error: Exception | None = None
        self._changed = asyncio.Event()

    @property
    def runnable(self) -> bool:
        """Whether there is something to do for it; on any thread."""
        return self.cancelled or (len(self._results) < self._most and self._ready())

    @property
    def begun(self) -> bool:
        """Whether a slice was done."""
        return self.slices > 0

    def cancel(self) -> None:
        """Do nothing more than the slice at hand; once is enough, and after the end it does nothing."""
        self.cancelled = True
        self._jobs.wake()

    def wake(self) -> None:
        """Look again whether there is something to do for it."""
        self._jobs.wake()

    def __aiter__(self) -> Job[T]:
        return self

    async def __anext__(self) -> T:
        while not self._results:
            if self._ended:
                if self._error:
                    raise self._error
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        paused = len(self._results) >= self._most
        found = self._results.popleft()
        if paused:
            self._jobs.wake()
        return found

    def count(self, kind: str) -> int:
        """Count the next slice; return how many of its kind there have been in a row, this one included."""
        self._in_a_row = self._in_a_row + 1 if kind == self._latest else 1
        self._latest = kind
        return self._in_a_row

    def advance(self) -> bool:
        """Do one slice, on the thread; return whether the job goes on."""
        if self.cancelled:
            if isinstance(self._steps, Generator):
                self._steps.close()
            return self._end(None)
        self.slices += 1
        try:
            found = next(self._steps)
        except StopIteration:
            return self._end(None)
        except Exception as error:  # carried to whoever asked for it, whatever it is
            return self._end(error)
        if found is not None:
            self._results.append(found)
            self._tell()
        return True

    def _end(self, error: Exception | None) -> bool:
        self._error, self._ended = error, True
        self._tell()
        return False

    def _tell(self) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._changed.set)


class Jobs:
    """The jobs of a server, taken in turn; `runtime.scheduler.Errands`.

    most: jobs at once, of one source no more than half of them. at_once: jobs that are stepped in turn; the others
    wait for their end.
    clock: seconds. woken: called, on any thread, when there may be something to do.
    """

    def __init__(self, most: int = 16, at_once: int = 4, clock: Callable[[], float] = time.perf_counter) -> None:
        self.most, self.woken = most, lambda: None
        self._at_once, self._clock = at_once, clock
        self._changed = threading.Condition()
        self._jobs: deque[Job[Any]] = deque()
        self._seconds: dict[str, float] = {}  # kind -> what a slice takes, as far as known
        self._closed = False

    @property
    def count(self) -> int:
        """How many there are."""
        with self._changed:
            return len(self._jobs)

    def add(
        self,
        steps: Iterator[T | None],
        kind: Callable[[], str],
        source: str = "",
        unread: int = UNREAD,
        ready: Callable[[], bool] = lambda: True,
    ) -> Job[T]:
        """Let work be done, on the event loop; arguments as of `Job`. Raises QueueFull."""
        with self._changed:
            if self._closed or len(self._jobs) >= self.most:
                raise QueueFull(of_one=False)
            if source and sum(job.source == source for job in self._jobs) >= max(1, self.most // 2):
                raise QueueFull(of_one=True)
            job = Job(self, steps, kind, source, unread, ready)
            self._jobs.append(job)
        self.wake()
        return job

    def wake(self) -> None:
        """Look again for something to do; from any thread."""
        with self._changed:
            self._changed.notify_all()
        self.woken()

    def close(self) -> None:
        """End `run` after the slice at hand."""
        self._closed = True
        self.wake()

    @property
    def waiting(self) -> bool:
        """As of `Errands`."""
        with self._changed:
            return next(iter(self._runnable()), None) is not None

    def advance(self, until: float) -> bool:
        """As of `Errands`."""
        with self._changed:
            runnable = list(self._runnable())
        now = self._clock()
        for job in runnable:
            kind = job.kind()
            expected = self._seconds.get(kind, 0.0)
            if now + expected > until - MARGIN:
                self._seconds[kind] = expected * (1 - FORGOTTEN)
                continue
            count = job.count(kind)
            goes_on = job.advance()
            if goes_on and count > FIRST:  # and the end of a job is no slice of it
                taken = self._clock() - now
                step = ADAPTED * (min(taken, OUTLIER * expected) - expected)
                self._seconds[kind] = expected + step if kind in self._seconds else taken
            with self._changed:
                self._jobs.remove(job)
                if goes_on:
                    self._jobs.append(job)  # the others' turn
            return True
        return False

    def work(self, until: float) -> None:
        """Do what can be done before a time of the clock."""
        while self.waiting and self.advance(until):
            pass

    def run(self, until: threading.Event) -> None:
        """Do all there is to do where there are no conversations, until `close`.

        until: ends it too, when it is set before `wake` is called.
        """

        def over() -> bool:
            return self._closed or until.is_set()

        while not over():
            with self._changed:
                self._changed.wait_for(lambda: over() or next(iter(self._runnable()), None) is not None)
            if not over():
                self.advance(np.inf)

    def abandon(self) -> None:
        """End all jobs, on the thread, which does nothing more for any."""
        self._closed = True
        for job in list(self._jobs):
            job.cancelled = True
            job.advance()
        self._jobs.clear()

    def _runnable(self) -> Iterable[Job[Any]]:
        """Yield the jobs that may be stepped, those whose turn it is first; under the lock."""
        running = sum(job.begun and job.runnable for job in self._jobs)
        for job in list(self._jobs):
            if not job.runnable:
                continue
            if not (job.begun or job.cancelled):
                if running >= self._at_once:
                    continue
                running += 1
            yield job


def in_slices(function: Callable[[Callable[[int], None]], T]) -> Generator[None, None, T]:
    """Call a function that tells of its progress, and yield whenever it does; return what it returns.

    function: called with what it is to tell, on a thread of its own, of which only one, it or the caller, runs at
    a time: so also MLX may be used in it. What it raises is raised here; if the generator is closed, it is ended
    the next time it tells.
    """
    ours, theirs = threading.Semaphore(0), threading.Semaphore(0)
    done: list[T] = []
    errors: list[BaseException] = []
    abandoned = False

    def told(count: int) -> None:
        ours.release()
        theirs.acquire()
        if abandoned:
            raise _Abandoned

    def work() -> None:
        theirs.acquire()
        try:
            if not abandoned:
                done.append(function(told))
        except BaseException as error:  # carried to the caller, whatever it is
            errors.append(error)
        finally:
            ours.release()

    thread = threading.Thread(target=work, name="moshi-loader", daemon=True)
    thread.start()
    try:
        while True:
            theirs.release()
            ours.acquire()
            if done or errors:
                break
            yield
    finally:
        if not (done or errors):
            abandoned = True
            theirs.release()
        thread.join()
    if errors:
        raise errors[0]
    return done[0]


class _Abandoned(BaseException):
    """Nobody wants what is being loaded any more."""
