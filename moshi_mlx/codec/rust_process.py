"""A process that runs rustymimi in one direction, as its user sees it. Not here: what it runs (`rust_worker`)."""

from __future__ import annotations

import contextlib
import os
import selectors
import subprocess
import sys
import tempfile
import threading
import weakref
from pathlib import Path
from typing import IO

from moshi_mlx.codec.rust_worker import ANSWER, OK
from moshi_mlx.errors import CheckpointError, CodecError

HANG_SECONDS = 2.0  # without an answer, after which a process is given up; a frame takes some 20 ms
LOAD_SECONDS = 60.0  # for the weights
_LOOK = 0.25  # seconds; time limits count in these, so that a stop of our own (Ctrl-Z) is one of them
_starting = threading.Lock()  # two processes started at once could inherit each other's pipes


class Worker:
    """A process of `rust_worker`, which ends with this object. One thread at a time may call it."""

    def __init__(self, weights: Path, direction: str, codebooks: int, max_frames: int) -> None:
        self.direction = direction
        self.frames = 0  # seen since it started; a reset does not make room again
        self._weights = weights
        self._loaded = False
        self._asking = False
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 - what it prints when it dies
        program = [sys.executable, "-m", "moshi_mlx.codec.rust_worker"]
        places = os.pathsep.join(place or os.getcwd() for place in sys.path)
        try:
            with _starting:
                # close_fds=False lets macOS start it without copying our memory map.
                self._process = subprocess.Popen(
                    [*program, str(weights), direction, str(codebooks), str(max_frames)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=self._complaints,
                    env={**os.environ, "PYTHONPATH": places, "PYTHONSAFEPATH": "1"},
                    close_fds=False,
                )
        except OSError as error:
            raise CodecError(f"cannot start a process for the codec: {error.strerror or error}") from error
        self._end = weakref.finalize(self, _end_process, self._process, self._complaints)

    def wait_until_loaded(self) -> None:
        """Wait for the weights; raise CheckpointError if rustymimi cannot use them, CodecError if it died."""
        if self._loaded:
            return
        status, result = self._answer(LOAD_SECONDS)
        if status != OK:
            raise CheckpointError(f"rustymimi cannot load {self._weights}: {result.decode(errors='replace')}")
        self._loaded = True

    def call(self, kind: bytes, request: bytes = b"") -> bytes:
        """Send one request and wait for its answer. Raises CodecError."""
        self.wait_until_loaded()
        if self._asking and self._process.poll() is None:
            # Ctrl-C came while it answered: that answer would be taken for this one's.
            raise CodecError(f"the codec was interrupted while it should {self.direction} a frame; start again")
        self._asking = True
        self.frames += 1  # after a reset a frame takes the room of two
        try:
            assert self._process.stdin
            self._process.stdin.write(kind + request)
            self._process.stdin.flush()
        except (OSError, ValueError) as error:  # ValueError: we closed it
            raise CodecError(self._how_it_ended()) from error
        status, result = self._answer(HANG_SECONDS)
        self._asking = False
        if status != OK:
            raise CodecError(f"rustymimi failed to {self.direction} a frame: {result.decode(errors='replace')}")
        return result

    def close(self) -> None:
        """End the process; calling it twice is fine."""
        self._end()

    def kill(self) -> None:
        """End the process at once; a thread that waits for its answer gets an error."""
        self._process.kill()

    def _answer(self, seconds: float) -> tuple[bytes, bytes]:
        assert self._process.stdout
        self._await(self._process.stdout, seconds)
        with contextlib.suppress(OSError, ValueError):  # ValueError: we closed it
            head = self._process.stdout.read(ANSWER.size)
            if len(head) == ANSWER.size:
                status, size = ANSWER.unpack(head)
                result = self._process.stdout.read(size)
                if len(result) == size:
                    return status, result
        raise CodecError(self._how_it_ended())

    def _await(self, answers: IO[bytes], seconds: float) -> None:
        """Wait until there is something to read; a process that neither answers nor ends is killed."""
        with contextlib.suppress(OSError, ValueError), selectors.DefaultSelector() as selector:
            selector.register(answers, selectors.EVENT_READ)
            for _ in range(round(seconds / _LOOK)):
                if selector.select(_LOOK):
                    return
            self.kill()
            raise CodecError(
                f"the codec's process that should {self.direction} has not answered for {seconds:g} s; start again"
            )

    def _how_it_ended(self) -> str:
        if not self._end.alive:
            return f"the codec's process that should {self.direction} was closed"
        _wait(self._process)
        self._complaints.seek(0)
        lines = self._complaints.read().decode(errors="replace").split("\n")
        reason = next((f": {line.strip()}" for line in reversed(lines) if line.strip()), "")
        status = self._process.returncode
        return f"the codec's process that should {self.direction} died (exit status {status}){reason}; start again"


def _end_process(process: subprocess.Popen[bytes], complaints: IO[bytes]) -> None:
    """Close its stdin, which ends the process after the frame at hand."""
    assert process.stdin
    assert process.stdout
    with contextlib.suppress(OSError):  # it died with a request unread
        process.stdin.close()
    _wait(process)
    process.stdout.close()  # only now: a thread that still waits for an answer would not let go of it
    complaints.close()


def _wait(process: subprocess.Popen[bytes]) -> None:
    """Wait for the end of a process, a second at most: then kill it."""
    try:
        process.wait(timeout=1.0)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
