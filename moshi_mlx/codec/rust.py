"""rustymimi as a codec whose streams may last for hours.

What rustymimi 0.4.1 is like decides how it is used. A step lets other threads run, but loading holds the
interpreter for up to a second, and one object serves one thread at a time. It never drops old keys and values
(62.5 KB a frame in each direction) and fails at the frame its tables end at; its reset does not make room again.

So each direction of a stream has a process of its own (`rust_worker`), and after some minutes hands over to a
fresh one: the successor loads, follows the same frames unheard for a while, and takes the stream over between two
frames. The transformers see 125 frames back, so what was before the successor's time no longer matters much.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from moshi_mlx.codec.base import StreamsApart, check_codes
from moshi_mlx.codec.rust_process import Worker
from moshi_mlx.codec.rust_worker import RESET, SECONDS, SPENT, STEP, WARM_UP
from moshi_mlx.errors import CodecError, MoshiError
from moshi_mlx.frames import FRAME_SAMPLES
from moshi_mlx.models.mimi_config import MIMI

COST_FRAMES = 4  # by which the cost of a frame is measured


@dataclass(frozen=True)
class Handover:
    """When a process gives a stream to its successor, in frames it has seen."""

    start: int = 2500  # the successor starts: 3 min 20 s, 160 MB of keys and values
    # Frames the successor sees before it is heard, 20 s. With random weights and speech, successors of 60, 125 and
    # 250 frames gave 90, 95 and 99 % of their predecessor's codes, and its audio within 21, 34 and 57 dB.
    history: int = 250
    limit: int = 4000  # from here on the stream waits for its successor rather than go on


class RustCodec:
    """The published Mimi in Rust, outside MLX and outside this process."""

    name = "rust"
    threaded = True

    def __init__(self, weights: Path, codebooks: int, handover: Handover | None = None) -> None:
        """Start a process for each direction. Raises CheckpointError if rustymimi cannot load the file."""
        self.codebooks = codebooks
        self.handover = handover or Handover()
        self._weights = weights
        self._lock = threading.Lock()
        self._idle: dict[str, list[Worker]] = {"encode": [], "decode": []}  # for the next streams
        self._used = Counter[str]()  # streams that are open, by direction
        workers = [self.worker(direction) for direction in ("encode", "decode")]  # both load at once
        for worker in workers:
            worker.wait_until_loaded()
            self._idle[worker.direction].append(worker)

    def stream(self) -> RustStream:
        """Return a fresh stream for one conversation."""
        return RustStream(self)

    def streams(self) -> StreamsApart:
        """Return what makes streams and takes frames of several: each still has two processes of its own."""
        return StreamsApart(self)

    def frame_cost(self) -> float:
        """Measure what a frame of one stream costs, both directions, in seconds of processors, all threads."""
        streams = [Direction(self, direction) for direction in ("encode", "decode")]
        try:
            size = {"encode": FRAME_SAMPLES, "decode": self.codebooks}
            return sum(stream.cost(bytes(4 * size[stream.name])) for stream in streams)
        finally:
            for stream in streams:
                stream.close()

    def take(self, direction: str) -> Worker:
        """Return a process at the start of a stream, perhaps still loading."""
        with self._lock:
            self._used[direction] += 1
            if idle := self._idle[direction]:
                return idle.pop(0)
        return self.worker(direction)

    def give_back(self, worker: Worker, alive: bool = True) -> None:
        """Take back the process of a stream that ended, and keep it or end it.

        Loading takes a second of a processor: where clients come and go without end, the others would not get
        their frames. So as many are kept as streams are open, and always one.
        """
        with self._lock:
            idle = self._idle[worker.direction]
            self._used[worker.direction] -= 1
            kept = alive and worker.frames < self.handover.start
            if kept:
                idle.append(worker)
            most = max(1, self._used[worker.direction])
            ending = [*([] if kept else [worker]), *idle[most:]]
            del idle[most:]
        for each in ending:
            each.close()

    def worker(self, direction: str) -> Worker:
        """Start a process for one direction."""
        return Worker(self._weights, direction, self.codebooks, self.handover.limit + self.handover.start)


class RustStream:
    """One conversation; encode and decode may be called from a thread each, resets from any."""

    def __init__(self, codec: RustCodec) -> None:
        self.encoder = Direction(codec, "encode")
        self.decoder = Direction(codec, "decode")

    def encode(self, frame: np.ndarray) -> np.ndarray:
        assert frame.shape == (FRAME_SAMPLES,), frame.shape
        return np.frombuffer(self.encoder.step(frame.astype(np.float32).tobytes()), np.uint32).astype(np.int32)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        check_codes(codes, MIMI.bins)
        return np.frombuffer(self.decoder.step(codes.astype(np.uint32).tobytes()), np.float32).copy()

    def reset_encoder(self) -> None:
        self.encoder.reset()

    def reset_decoder(self) -> None:
        self.decoder.reset()

    def close(self) -> None:
        self.encoder.close()
        self.decoder.close()


class Direction:
    """An endless stream in one direction, carried by one process after another."""

    def __init__(self, codec: RustCodec, direction: str) -> None:
        self._codec = codec
        self.name = direction
        self._lock = threading.Lock()
        self._successor: Successor | None = None
        self._worker: Worker | None = codec.take(direction)
        self.handovers = 0

    @property
    def frames_held(self) -> int:
        """Frames that the process heard now has seen, of this stream and of those before; bounds its memory."""
        return self._worker.frames if self._worker else 0

    def step(self, request: bytes) -> bytes:
        """Send one frame, or the codes of one; return its codes or audio. Raises CodecError."""
        with self._lock:
            self._worker = self._hand_over(self._opened())
            answer = self._worker.call(STEP, request)
            if self._successor:
                self._successor.follow(request)
            return answer

    def reset(self) -> None:
        """Forget the stream, keep the process."""
        with self._lock:
            worker = self._opened()
            self._drop_successor()  # it has followed what is now forgotten
            worker.call(RESET)

    def cost(self, request: bytes) -> float:
        """Measure what a frame costs, in seconds of processors; the stream is to be closed then."""
        with self._lock:
            worker, spent = self._opened(), [0.0, 0.0]
            for half in range(2):  # the first steps take longer
                for _ in range(COST_FRAMES):
                    worker.call(WARM_UP, request)
                spent[half] = SECONDS.unpack(worker.call(SPENT))[0]
            return (spent[1] - spent[0]) / COST_FRAMES

    def close(self) -> None:
        """Give the process back to the codec; calling it twice is fine."""
        with self._lock:
            self._drop_successor()
            worker, self._worker = self._worker, None
            if worker is None:
                return
            alive = True
            if worker.frames:  # else there is nothing to forget, and its loading is not waited for
                try:
                    worker.call(RESET)
                except CodecError:
                    alive = False
            self._codec.give_back(worker, alive)

    def _opened(self) -> Worker:
        if self._worker is None:
            raise CodecError("the codec's stream is closed")
        return self._worker

    def _hand_over(self, worker: Worker) -> Worker:
        rules = self._codec.handover
        if worker.frames < rules.start:
            return worker
        if self._successor is None:
            self._successor = Successor(self._codec.worker(self.name))
        if not self._successor.caught_up(rules.history, wait=worker.frames >= rules.limit):
            return worker
        self.handovers += 1
        successor, self._successor = self._successor, None
        threading.Thread(target=worker.close, name="codec end", daemon=True).start()  # takes a moment
        return successor.take_over()

    def _drop_successor(self) -> None:
        if self._successor:
            self._successor.drop()
            self._successor = None


class Successor:
    """A process that loads and follows a stream unheard, on a thread that the stream does not wait for."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._changed = threading.Condition()
        # Frames to follow, no more than from Handover.start to .limit; None: stop following.
        self._waiting: deque[bytes | None] = deque()
        self._busy = True
        self._error: MoshiError | None = None
        name = f"codec successor ({worker.direction})"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def follow(self, request: bytes) -> None:
        """Hand over a frame that the stream has answered."""
        with self._changed:
            self._waiting.append(request)
            self._changed.notify_all()

    def caught_up(self, history: int, wait: bool) -> bool:
        """Return whether it has followed `history` frames, and all there were; raise CodecError if it failed.

        wait: until it has followed all there were, however few.
        """
        with self._changed:
            if wait:
                self._changed.wait_for(lambda: self._error or not (self._busy or self._waiting))
            if self._error:
                raise CodecError(f"the successor of the codec's process failed: {self._error}") from self._error
            return not (self._busy or self._waiting) and (wait or self._worker.frames >= history)

    def take_over(self) -> Worker:
        """Stop following, once caught up; return the process."""
        self._retire()
        return self._worker

    def drop(self) -> None:
        """Stop following and end the process."""
        self._worker.kill()
        self._retire()
        self._worker.close()

    def _retire(self) -> None:
        with self._changed:
            self._waiting = deque([None])
            self._changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        try:
            self._worker.wait_until_loaded()
            while (request := self._next()) is not None:
                self._worker.call(WARM_UP, request)
        except MoshiError as error:
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _next(self) -> bytes | None:
        with self._changed:
            self._busy = False
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._waiting)
            self._busy = True
            return self._waiting.popleft()
