"""Stages inline and on threads: same order, same results, errors come out, nothing hangs."""

import itertools
import threading
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from moshi_mlx.frames import FRAME_SECONDS
from moshi_mlx.runtime import pipeline
from moshi_mlx.runtime.flow import BoundedQueue
from moshi_mlx.runtime.pipeline import SpareTime, called, mapped

BOTH = pytest.mark.parametrize("threaded", [False, True], ids=["inline", "threaded"])


def square(x: int) -> int:
    return x * x


@BOTH
def test_mapped_gives_every_result_in_order(threaded: bool) -> None:
    with mapped("stage", square, range(50), threaded, 2, {}) as results:
        assert list(results) == [x * x for x in range(50)]


@BOTH
def test_called_makes_every_call_in_order_before_it_is_left(threaded: bool) -> None:
    seen: list[int] = []
    with called("stage", seen.append, threaded, 2, {}) as call:
        for x in range(50):
            call(x)
    assert seen == list(range(50))


@BOTH
def test_an_error_in_mapped_comes_out_after_the_results_before_it(threaded: bool) -> None:
    with mapped("stage", lambda x: 6 // x, [3, 2, 0, 1], threaded, 2, {}) as results:
        got = iter(results)
        assert [next(got), next(got)] == [2, 3]
        with pytest.raises(ZeroDivisionError):
            next(got)


@BOTH
def test_an_error_in_called_comes_out(threaded: bool) -> None:
    def fail(x: int) -> None:
        raise ValueError(x)

    def use() -> None:
        with called("stage", fail, threaded, 1, {}) as call:
            for x in range(9):
                call(x)

    with pytest.raises(ValueError, match="0"):
        use()


def test_the_stages_run_beside_the_caller() -> None:
    threads: set[str] = set()
    with (
        called("out", lambda x: threads.add(threading.current_thread().name), True, 2, {}) as call,
        mapped("in", lambda x: threads.add(threading.current_thread().name), range(3), True, 2, {}) as results,
    ):
        for x in results:
            call(x)
    assert threads == {"moshi-in", "moshi-out"}


def test_leaving_an_endless_stage_early_ends_its_thread() -> None:
    depths: dict[str, int] = {}
    with mapped("endless", square, itertools.count(), True, 3, depths) as results:
        next(iter(results))
    assert not [thread for thread in threading.enumerate() if thread.name == "moshi-endless"]
    assert 1 <= depths["endless"] <= 3


def test_an_error_in_the_caller_drops_the_waiting_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    gate, started = threading.Event(), threading.Event()
    seen: list[int] = []

    def slow(x: int) -> None:
        started.set()
        gate.wait(60)
        seen.append(x)

    def use() -> None:
        with called("stage", slow, True, 8, {}) as call:
            for x in range(5):
                call(x)
            started.wait(60)
            raise KeyboardInterrupt

    abandon = BoundedQueue.abandon
    monkeypatch.setattr(BoundedQueue, "abandon", lambda queue: (abandon(queue), gate.set()))
    with pytest.raises(KeyboardInterrupt):
        use()
    assert seen == [0]


@BOTH
def test_time_is_spare_after_items_that_were_waited_for(threaded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two items come at once, then two after a wait each, on a clock that stands still meanwhile."""
    now = 5.0
    monkeypatch.setattr(pipeline, "time", SimpleNamespace(perf_counter=lambda: now))
    gates = [threading.Event() for _ in range(4)]
    spare: list[tuple[int, float]] = []
    done = 0

    def items() -> Iterator[int]:
        nonlocal now
        for number, gate in enumerate(gates):
            if number >= 2:
                assert gate.wait(60)
                now += 0.02
            yield number

    stream = SpareTime(items(), lambda until: spare.append((done, until)))
    with mapped("stage", lambda item: item, stream, threaded, 4, {}) as results:
        for done in results:
            if done in (1, 2):
                gates[done + 1].set()
            stream.done()
    assert spare == [(2, pytest.approx(5.02 + FRAME_SECONDS)), (3, pytest.approx(5.04 + FRAME_SECONDS))]


def test_without_anything_to_do_spare_time_passes() -> None:
    stream = SpareTime([1, 2], None)
    for _ in stream:
        stream.done()
