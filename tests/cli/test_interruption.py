"""Ctrl-C ends a conversation between two frames, and whoever presses it twice is heard at once."""

import os
import signal
import threading

import pytest

from moshi_mlx.cli.interruption import interruptible

PATIENCE = 60.0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_stops_from_another_thread_and_raises_nothing_here(number: int) -> None:
    before = signal.getsignal(number)
    stopped, threads = threading.Event(), []

    def stop() -> None:
        threads.append(threading.current_thread())
        stopped.set()

    with interruptible(stop) as interruption:
        assert not interruption.came
        os.kill(os.getpid(), number)
        assert stopped.wait(PATIENCE)
    assert interruption.came
    assert threads != [threading.main_thread()]
    assert signal.getsignal(number) is before


def test_a_signal_that_another_thread_gets_stops_a_main_thread_that_waits() -> None:
    """The system chooses the thread; Python runs handlers in the main one, which does not wake up for it."""
    stopped = threading.Event()
    other = threading.Thread(target=lambda: signal.pthread_kill(threading.get_ident(), signal.SIGINT))
    with interruptible(stopped.set) as interruption:
        other.start()
        assert stopped.wait(PATIENCE)
    assert interruption.came
    other.join()


def test_it_leaves_nothing_behind() -> None:
    open_files = len(os.listdir("/dev/fd"))
    threads = threading.active_count()
    for _ in range(3):
        with interruptible(lambda: None):
            pass
    assert (len(os.listdir("/dev/fd")), threading.active_count()) == (open_files, threads)


def test_a_lock_that_is_held_here_is_no_deadlock() -> None:
    lock, stopped = threading.Lock(), threading.Event()

    def stop() -> None:
        with lock:
            stopped.set()

    with interruptible(stop):
        with lock:
            os.kill(os.getpid(), signal.SIGINT)
        assert stopped.wait(PATIENCE)


def test_pressed_again_it_leaves_the_block_at_once() -> None:
    stops: list[int] = []
    with interruptible(lambda: stops.append(1)) as interruption:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        threading.Event().wait(PATIENCE)
        pytest.fail("it was waited for")
    assert interruption.came
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert len(stops) <= 1


def test_a_finalizer_cannot_swallow_it() -> None:
    """An exception would be printed and forgotten there, and the program go on."""
    stopped = threading.Event()

    class Thing:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGINT)
            stopped.wait(PATIENCE)

    with interruptible(stopped.set) as interruption:
        Thing()
    assert interruption.came
    assert stopped.is_set()


def test_in_another_thread_nothing_is_changed() -> None:
    seen: list[object] = []

    def work() -> None:
        with interruptible(lambda: None) as interruption:
            seen.extend([signal.getsignal(signal.SIGINT), interruption.came])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler, False]
