"""The whole live path in real time on a software sound card, with a model that repeats what it hears."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import numpy as np
import pytest

from moshi_mlx.audio.duplex import Duplex
from moshi_mlx.audio.echo.control import EchoControl
from moshi_mlx.runtime.engine import converse
from moshi_mlx.runtime.reply import Reply
from tests.repeating import Repeating
from tests.sound_card import SoundCard

FRAMES = 40  # three seconds
BUSY = 0.05  # seconds of the 0.08 of a frame


class Timed:
    """The first frames of a duplex, and when its replies came."""

    def __init__(self, duplex: Duplex) -> None:
        self.duplex = duplex
        self.taken = 0
        self.writes: list[float] = []

    def __iter__(self) -> Iterator[np.ndarray]:
        for frame in self.duplex:
            self.taken += 1
            yield frame
            if self.taken == FRAMES:
                return

    def write(self, reply: Reply) -> None:
        self.writes.append(time.perf_counter())
        self.duplex.write(reply)

    def close(self) -> None:
        self.duplex.close()


def in_python() -> None:
    """Work that holds the interpreter, as far as anything does."""
    until = time.perf_counter() + BUSY
    while time.perf_counter() < until:
        pass


def in_numpy() -> None:
    until = time.perf_counter() + BUSY
    while time.perf_counter() < until:
        np.linalg.norm(np.ones((200, 200), np.float32) @ np.ones((200, 200), np.float32))


@pytest.mark.parametrize("work", [in_python, in_numpy])
def test_a_busy_model_makes_no_gaps_but_by_being_late(sound_card: SoundCard, work: Callable[[], None]) -> None:
    """Where nothing else runs, nothing is late, and there must be no gap at all."""
    asked: list[float] = []  # when the speaker wanted a block
    with closing(Duplex("virtmic", "virtspk", EchoControl("linear"))) as duplex:
        fill = duplex._speaker.fill
        duplex._speaker.fill = lambda block: (asked.append(time.perf_counter()), fill(block))[1]
        timed = Timed(duplex)
        converse(Repeating(work), timed, timed)  # pyright: ignore[reportArgumentType]
        status = duplex.status()
    assert len(timed.writes) == timed.taken == FRAMES, "every frame has its reply"
    assert len(asked) > 100
    late = sum(np.diff(timed.writes) > 0.1) + sum(np.diff(asked) > 0.04)  # by 20 ms; 40 are in reserve
    assert status.underruns <= late
    assert status.lost == []
    duplex._thread.join(60)
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("moshi-")]
