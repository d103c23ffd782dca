"""A speaker alone as the sink of speech that may be made faster than it is heard."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from moshi_mlx.audio.capture import Wakeup
from moshi_mlx.audio.jitter import STEP
from moshi_mlx.audio.speaker import Speaker
from moshi_mlx.audio.watchdog import DeviceEvent, Endpoint, Watchdog
from moshi_mlx.frames import FRAME_SECONDS
from moshi_mlx.runtime.flow import BoundedQueue, QueueClosed

if TYPE_CHECKING:  # at run time this module needs no model
    from moshi_mlx.runtime.reply import Reply

AHEAD = 25  # frames that may wait, 2 s, beside what the speaker's buffer holds
FULL = 0.32  # seconds in that buffer at which no more goes in: with a frame, less than what it would leave out


class Player:
    """Sink of `engine.converse`: plays all that is written, in order, and lets the writer wait while much waits.

    >>> with Player() as player:
    ...     for spoken in say(moshi, "Good morning!", [voice]):
    ...         player.write(Reply(spoken.audio, "", 0.0))
    ...     player.finish()

    output, on_event: as of `Duplex`, whose speaker and watchdog it shares: a device that fails is opened again
    when it is back. One thread writes; `close` may be called from any.
    Raises AudioDeviceError here, and in `write` and `finish` for a device that turns out to have no clock.
    """

    def __init__(
        self, output: str | int | None = None, on_event: Callable[[DeviceEvent], None] | None = None
    ) -> None:
        self._played = _Played()
        self._speaker = Speaker(self._played, trims=False)
        self._queue: BoundedQueue[np.ndarray] = BoundedQueue(AHEAD)
        self._closed = False
        self._error: BaseException | None = None
        self._endpoint = Endpoint("output", output, self._speaker)
        self._watchdog = Watchdog([self._endpoint], on_event or (lambda event: None), self._failed)
        self._watchdog.open()
        self._thread = threading.Thread(target=self._play, name="moshi-player", daemon=True)
        self._thread.start()

    def write(self, reply: Reply) -> None:
        """Play a reply after all others; one without audio adds nothing, and after `close` nothing is heard."""
        if reply.audio is None:
            return
        try:
            self._queue.put(reply.audio)
        except QueueClosed:
            self._raise()

    def finish(self) -> None:
        """Wait until all has been heard, or `close` is called. No more may be written."""
        self._queue.close()
        self._thread.join()
        self._raise()

    def close(self) -> None:
        """Stop at once, within a second whatever has become of the device; from any thread, also twice."""
        self._closed = True
        self._queue.abandon()
        self._played.wakeup.set()
        self._watchdog.close()

    def __enter__(self) -> Player:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    def gaps(self) -> int:
        """How often the speaker had nothing to play, for less than half a second, before it had all."""
        return self._speaker.underruns

    def describe(self) -> str:
        """Return a line about the device: its name and how it was opened."""
        stream = self._endpoint.stream
        return f"{self._endpoint.name}: {stream.device.name}, {stream.rate} Hz" if stream else self._endpoint.name

    def _play(self) -> None:
        """Run the thread between the queue and the speaker's buffer."""
        for pcm in self._queue:
            self._wait(lambda: self._speaker.delay <= min(self._speaker.cushion + FRAME_SECONDS, FULL))
            self._speaker.write(pcm)
        self._wait(lambda: self._speaker.delay <= STEP)
        latency = self._endpoint.stream.latency if self._endpoint.stream else 0.0
        heard = self._played.seconds + STEP + latency  # what the device holds itself is silence only then
        self._wait(lambda: self._played.seconds >= heard)

    def _wait(self, ready: Callable[[], bool]) -> None:
        """Let the device play until it is so."""
        while not (self._closed or ready()):
            self._played.wakeup.wait()

    def _raise(self) -> None:
        if self._error:
            raise self._error

    def _failed(self, error: BaseException) -> None:
        self._error = error
        self._closed = True
        self._queue.abandon()
        self._played.wakeup.set()


class _Played:
    """How much the device was given, and what wakes who waits for it."""

    def __init__(self) -> None:
        self.wakeup = Wakeup()
        self.seconds = 0.0
        self._rate = 1

    def prepare(self, rate: int) -> None:
        self._rate = rate

    def fill(self, block: np.ndarray) -> None:
        self.seconds += len(block) / self._rate
        self.wakeup.set()
