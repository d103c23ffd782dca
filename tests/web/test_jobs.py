"""Requests' work on the thread that owns MLX: a slice at a time, in turn, within the time that there is."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator

import pytest

from moshi_mlx.web.jobs import FIRST, MARGIN, Job, Jobs, QueueFull, in_slices
from tests.web.running import run


async def one_of(job: Job[str]) -> str:
    """The next of what a job yields."""
    return await job.__anext__()


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def slices(
    done: list[str], name: str, count: int, clock: Clock | None = None, seconds: float = 0.0
) -> Iterator[str]:
    """Work of so many slices, each of which takes so long; `done` gets its name for each, and "-" at the end."""
    try:
        for number in range(count):
            if clock:
                clock.now += seconds
            done.append(name)
            yield f"{name}{number}"
    finally:
        done.append(f"{name}-")


def test_jobs_take_turns_and_give_what_they_yield() -> None:
    async def go() -> None:
        jobs, done = Jobs(), list[str]()
        one, two = (jobs.add(slices(done, name, 2), lambda: "kind") for name in "ab")
        while jobs.waiting:
            assert jobs.advance(1e9)
        assert done == ["a", "b", "a", "b", "a-", "b-"]
        assert [found async for found in one] == ["a0", "a1"]
        assert [found async for found in two] == ["b0", "b1"]
        assert jobs.count == 0

    run(go())


def test_no_more_than_so_many_are_begun_at_once_and_none_beyond_the_queue() -> None:
    async def go() -> None:
        jobs, done = Jobs(most=4, at_once=2), list[str]()
        for name, source in zip("abcd", "xxyy", strict=True):
            jobs.add(slices(done, name, 2), lambda: "kind", source)
        with pytest.raises(QueueFull) as full:
            jobs.add(slices(done, "e", 1), lambda: "kind", "z")
        assert not full.value.of_one
        for _ in range(7):
            jobs.advance(1e9)
        assert done == ["a", "b", "a", "b", "a-", "c", "b-"]
        jobs.add(slices(done, "e", 1), lambda: "kind", "z")
        with pytest.raises(QueueFull) as full:
            jobs.add(slices(done, "f", 1), lambda: "kind", "y")
        assert full.value.of_one

    run(go())


def test_nothing_is_begun_that_would_probably_end_too_late() -> None:
    async def go() -> None:
        clock, done = Clock(), list[str]()
        jobs = Jobs(clock=clock)
        jobs.add(slices(done, "a", 9, clock, 0.030), lambda: "a")
        jobs.add(slices(done, "b", 9, clock, 0.010), lambda: "b")
        jobs.work(1.0)  # all of it is known now to take so long, and is done
        done.clear()
        jobs.add(slices(done, "a", 9, clock, 0.030), lambda: "a")
        jobs.add(slices(done, "b", 9, clock, 0.010), lambda: "b")
        clock.now = 10.0
        jobs.work(10.0 + 0.030 + MARGIN - 1e-4)
        assert done == ["b", "b"], "no time for what takes 30 ms"
        clock.now = 20.0
        jobs.work(20.0 + 0.040 + MARGIN + 1e-4)
        assert done[2:] == ["a", "b"]
        assert clock.now <= 20.04 + 1e-9

    run(go())


def test_the_first_slices_are_not_taken_for_what_the_others_are() -> None:
    async def go() -> None:
        clock, done = Clock(), list[str]()
        jobs = Jobs(clock=clock)

        def compiled() -> Iterator[str]:
            for number in range(9):
                clock.now += 0.5 if number < FIRST else 0.010
                done.append("a")
                yield "a"

        jobs.add(compiled(), lambda: "a")
        for tick in range(9):
            clock.now = 10.0 * tick
            jobs.work(clock.now + 0.030)
        assert len(done) == 9, "one slice that compiles a tick, then two of ten milliseconds"
        assert clock.now < 80.0 + 0.030

    run(go())


def test_a_cancelled_job_does_not_take_another_slice() -> None:
    async def go() -> None:
        jobs, done = Jobs(), list[str]()
        job = jobs.add(slices(done, "a", 9), lambda: "kind")
        waiting = jobs.add(slices(done, "b", 9), lambda: "kind")
        jobs.advance(1e9)
        job.cancel()
        waiting.cancel()
        while jobs.waiting:
            jobs.advance(1e9)
        assert done == ["a", "a-"], "what was begun is closed, what was not is not begun"
        assert job.slices == 1
        assert [found async for found in job] == ["a0"]

    run(go())


def test_a_job_pauses_while_nobody_reads_and_the_others_go_on() -> None:
    async def go() -> None:
        jobs, done = Jobs(at_once=1), list[str]()
        unread = jobs.add(slices(done, "a", 9), lambda: "kind", unread=2)
        jobs.add(slices(done, "b", 2), lambda: "kind")
        while jobs.waiting:
            jobs.advance(1e9)
        assert done == ["a", "a", "b", "b", "b-"]
        woken: list[None] = []
        jobs.woken = lambda: woken.append(None)
        assert await one_of(unread) == "a0"
        assert woken
        assert jobs.waiting

    run(go())


def test_an_error_is_raised_where_the_results_are_read() -> None:
    def broken() -> Iterator[str]:
        yield "first"
        raise ValueError("broken")

    async def go() -> None:
        jobs = Jobs()
        job = jobs.add(broken(), lambda: "kind")
        jobs.work(1e9)
        assert await one_of(job) == "first"
        with pytest.raises(ValueError, match="broken"):
            await one_of(job)

    run(go())


def test_the_thread_sleeps_until_there_is_something_to_do_and_closes_what_is_left() -> None:
    async def go() -> None:
        jobs, done = Jobs(), list[str]()

        def work() -> None:
            jobs.run(until=threading.Event())
            jobs.abandon()

        thread = threading.Thread(target=work)
        thread.start()
        job = jobs.add(slices(done, "a", 3), lambda: "kind")
        assert [found async for found in job] == ["a0", "a1", "a2"]
        endless = jobs.add(slices(done, "b", 10**9), lambda: "kind", unread=1)
        assert await one_of(endless) == "b0"
        jobs.close()
        await asyncio.to_thread(thread.join)
        assert done[-1] == "b-"
        with pytest.raises(QueueFull):
            jobs.add(slices(done, "c", 1), lambda: "kind")

    run(go())


def test_what_tells_of_its_progress_is_done_in_slices() -> None:
    threads: set[str] = set()
    told: list[int] = []

    def load(advance: Callable[[int], None]) -> str:
        threads.add(threading.current_thread().name)
        for count in range(3):
            told.append(count)
            advance(count)
        return "loaded"

    steps, seen, result = in_slices(load), list[int](), list[str]()

    def stepped() -> Iterator[None]:
        result.append((yield from steps))

    for _ in stepped():
        seen.append(len(told))
    assert result == ["loaded"]
    assert seen == [1, 2, 3], "it stands still between the slices"
    assert threads == {"moshi-loader"}


def test_loading_that_nobody_wants_any_more_ends() -> None:
    told: list[int] = []

    def load(advance: Callable[[int], None]) -> None:
        for count in range(100):
            told.append(count)
            advance(count)

    steps = in_slices(load)
    next(steps)
    steps.close()
    assert told == [0]
    assert not [one for one in threading.enumerate() if one.name == "moshi-loader"]

    def fail(advance: Callable[[int], None]) -> None:
        raise ValueError("damaged")

    with pytest.raises(ValueError, match="damaged"):
        next(in_slices(fail))
