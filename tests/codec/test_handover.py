"""How a direction of the Rust codec passes from process to process, with processes that are none.

The stand-in answers with the sum of the last few frames it saw, so a successor that followed as many continues the
stream exactly, and one that did not gives itself away.
"""

import threading
from collections import deque
from pathlib import Path

import pytest

from moshi_mlx.codec.rust import Direction, Handover, RustCodec
from moshi_mlx.codec.rust_worker import RESET, STEP
from moshi_mlx.errors import CodecError

pytestmark = pytest.mark.slow

MEMORY = 5  # frames
RULES = Handover(start=20, history=MEMORY, limit=40)


class FakeWorker:
    def __init__(self, direction: str, loading: threading.Event | None = None, fails: bool = False) -> None:
        self.direction = direction
        self.frames = 0
        self.closed = threading.Event()
        self._loading = loading
        self._fails = fails
        self._last: deque[int] = deque(maxlen=MEMORY)

    def wait_until_loaded(self) -> None:
        if self._loading:
            self._loading.wait(60)
        if self._fails:
            raise CodecError("it fell over")

    def call(self, kind: bytes, request: bytes = b"") -> bytes:
        if self.closed.is_set():
            raise CodecError("closed")
        self.frames += 1
        if kind == RESET:
            self._last.clear()
            return b""
        self._last.append(int(request))
        return str(sum(self._last)).encode() if kind == STEP else b""

    def close(self) -> None:
        self.closed.set()

    kill = close


class FakeCodec:
    """The part of RustCodec that a direction sees."""

    def __init__(self, handover: Handover = RULES, **successor: object) -> None:
        self.handover = handover
        self.workers: list[FakeWorker] = []
        self.kept: list[FakeWorker] = []
        self._successor = successor

    def take(self, direction: str) -> FakeWorker:
        self.workers.append(FakeWorker(direction))
        return self.workers[-1]

    def worker(self, direction: str) -> FakeWorker:
        self.workers.append(FakeWorker(direction, **self._successor))  # pyright: ignore[reportArgumentType]
        return self.workers[-1]

    def give_back(self, worker: FakeWorker, alive: bool = True) -> None:
        self.kept.append(worker)


def direction(codec: FakeCodec) -> Direction:
    return Direction(codec, "encode")  # pyright: ignore[reportArgumentType]


def expected(frame: int, start: int = 0) -> bytes:
    return str(sum(range(max(start, frame - MEMORY + 1), frame + 1))).encode()


def test_an_endless_stream_is_unbroken_and_no_process_sees_many_frames() -> None:
    codec = FakeCodec()
    stream = direction(codec)
    held = 0
    for frame in range(1000):
        assert stream.step(str(frame).encode()) == expected(frame)
        held = max(held, stream.frames_held)
    assert held <= RULES.limit + 1
    assert stream.handovers >= 1000 // RULES.limit
    for worker in codec.workers[: stream.handovers]:
        assert worker.closed.wait(60)


def test_the_stream_does_not_wait_for_a_successor_that_loads() -> None:
    loaded = threading.Event()
    stream = direction(FakeCodec(loading=loaded))
    for frame in range(RULES.limit):
        assert stream.step(str(frame).encode()) == expected(frame)
    assert stream.handovers == 0
    threading.Timer(0.05, loaded.set).start()
    assert stream.step(str(RULES.limit).encode()) == expected(RULES.limit)  # there is no room left: this one waits
    assert stream.handovers == 1


def test_a_successor_takes_over_only_with_its_history() -> None:
    stream = direction(FakeCodec(Handover(start=20, history=15, limit=1000)))
    frame = 0
    while not stream.handovers:
        assert stream.step(str(frame).encode()) == expected(frame)
        frame += 1
        if stream._successor:
            stream._successor.caught_up(15, wait=True)  # as one that is quicker than the stream
    assert stream.frames_held == 15 + 1


def test_a_successor_that_fails_is_an_error() -> None:
    stream = direction(FakeCodec(fails=True))
    with pytest.raises(CodecError, match="successor of the codec's process failed: it fell over"):
        deque(map(stream.step, [b"1"] * (RULES.limit + 1)))


def test_a_reset_drops_the_successor_that_followed_the_old_stream() -> None:
    codec = FakeCodec(Handover(start=20, history=1000, limit=2000))
    stream = direction(codec)
    for frame in range(25):
        stream.step(str(frame).encode())
    stream.reset()
    assert codec.workers[1].closed.is_set()
    for frame in range(100, 150):
        assert stream.step(str(frame).encode()) == expected(frame, start=100)


def test_a_closed_stream_keeps_its_process_for_the_next_and_refuses_frames() -> None:
    codec = FakeCodec()
    stream = direction(codec)
    stream.step(b"1")
    stream.close()
    stream.close()
    assert codec.kept == codec.workers
    with pytest.raises(CodecError, match="closed"):
        stream.step(b"2")
    with pytest.raises(CodecError, match="closed"):
        stream.reset()


def test_clients_that_come_and_go_start_no_processes_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two stay, two come again for ever, one leaves before its process has loaded."""
    started: list[FakeWorker] = []

    def start(self: RustCodec, direction: str) -> FakeWorker:
        started.append(FakeWorker(direction))
        return started[-1]

    monkeypatch.setattr(RustCodec, "worker", start)
    codec = RustCodec(tmp_path, 8, RULES)
    staying = [Direction(codec, "encode") for _ in range(2)]
    for one in staying:
        one.step(b"1")
    for number in range(50):
        coming = [Direction(codec, "encode") for _ in range(2)]
        if number % 2:
            coming[0].step(b"1")
        for one in coming:
            one.close()
    encoders = [worker for worker in started if worker.direction == "encode"]
    ended = sum(worker.closed.is_set() for worker in encoders)
    assert len(encoders) - ended == 4, "two at work, and two for those who come"
    assert ended <= 50 // RULES.start * 2 + 2, "but for those that have seen so much that their room ends"
    for one in staying:
        one.close()
    assert sum(not worker.closed.is_set() for worker in encoders) == 1, "nobody is here: one for the next"
