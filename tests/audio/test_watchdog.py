"""What becomes of devices whose system calls hang."""

import os
import queue
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from moshi_mlx.audio import watchdog
from moshi_mlx.audio.portaudio import suppressed_stderr
from moshi_mlx.audio.watchdog import DeviceEvent, Watchdog

PATIENCE = 60.0


class Hanging:
    """An endpoint whose stream has ended, and whose device does not come back from being closed, or opened."""

    name = "microphone"
    device = None
    lost = reopen = False
    next_try = 0.0

    def __init__(self, opens: bool = True) -> None:
        self.stream: Any = type("Ended", (), {"ended": True, "last_sign": 0.0})
        self.entered = threading.Event()
        self.released = threading.Event()
        self._opens = opens

    def open(self, ended: object) -> None:
        if not self._opens:
            self._hang()

    def close(self) -> None:
        self._hang()

    def postpone(self) -> None: ...

    def _hang(self) -> None:
        with suppressed_stderr:
            self.entered.set()
            self.released.wait(PATIENCE)


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """One entry for every time that PortAudio's own end was called off; nothing is really called off."""
    calls: list[bool] = []

    class Sound:
        @staticmethod
        def _exit_handler() -> None: ...

    monkeypatch.setattr("moshi_mlx.audio.portaudio.portaudio", lambda: Sound)
    monkeypatch.setattr("atexit.unregister", lambda handler: calls.append(handler is Sound._exit_handler))
    return calls


@pytest.fixture
def endpoint() -> Iterator[Hanging]:
    hanging = Hanging()
    yield hanging
    hanging.released.set()


def watched(endpoint: Hanging, events: queue.Queue[DeviceEvent]) -> Watchdog:
    dog = Watchdog([endpoint], events.put, lambda error: None)  # pyright: ignore[reportArgumentType]
    dog._wakeup.set()  # what has ended is looked after at once
    return dog


def test_a_device_that_hangs_is_said_to_be_lost_all_the_same(endpoint: Hanging, left: list[bool]) -> None:
    events: queue.Queue[DeviceEvent] = queue.Queue()
    dog = watched(endpoint, events)
    dog.open()
    assert endpoint.entered.wait(PATIENCE)
    assert events.get_nowait().kind == "lost"
    endpoint.released.set()
    dog.close()


def test_closing_waits_once_and_leaves_what_hangs_to_the_system(
    endpoint: Hanging, left: list[bool], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(watchdog, "CLOSE_SECONDS", 0.05)
    waits: list[float] = []
    dog = watched(endpoint, queue.Queue())
    join = dog._thread.join
    dog._thread.join = lambda timeout=None: (waits.append(timeout or 0.0), join(timeout))[1]
    dog.open()
    assert endpoint.entered.wait(PATIENCE)
    for _ in range(3):
        dog.close()
    assert waits == [0.05, 0.0, 0.0]
    assert left == [True] * 3
    os.write(2, b"the last words\n")  # though stderr is suppressed in the call that hangs
    assert capfd.readouterr().err == "the last words\n"
    endpoint.released.set()
    join(PATIENCE)
    os.write(2, b"and more\n")
    assert capfd.readouterr().err == "and more\n"


def test_ctrl_c_while_a_device_is_being_opened_leaves_it_to_the_system(
    left: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "CLOSE_SECONDS", 0.05)
    endpoint = Hanging(opens=False)
    dog = watched(endpoint, queue.Queue())

    def interrupted() -> None:
        assert endpoint.entered.wait(PATIENCE)
        raise KeyboardInterrupt

    monkeypatch.setattr(dog._opened, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        dog.open()
    assert left == [True]
    endpoint.released.set()
    dog._thread.join(PATIENCE)
    assert not dog._thread.is_alive()


def test_an_error_on_its_thread_reaches_who_waits_for_audio() -> None:
    """As where whoever reads the events has gone."""
    failed: queue.Queue[BaseException] = queue.Queue()
    endpoint = Hanging()
    endpoint.released.set()  # nothing hangs
    nobody = BrokenPipeError("nobody reads")

    def tell(event: DeviceEvent) -> None:
        raise nobody

    dog = Watchdog([endpoint], tell, failed.put)  # pyright: ignore[reportArgumentType]
    dog._wakeup.set()
    dog.open()
    assert failed.get(timeout=PATIENCE) is nobody
    dog.close()
    assert not dog._thread.is_alive()
