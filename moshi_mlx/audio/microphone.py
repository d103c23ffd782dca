"""A microphone alone as the source of a conversation in which nobody answers aloud."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from moshi_mlx.audio.capture import Capture
from moshi_mlx.audio.duplex import PERMISSION_SECONDS, permission_message
from moshi_mlx.audio.watchdog import DeviceEvent, Endpoint, Watchdog
from moshi_mlx.frames import is_silent
from moshi_mlx.runtime.flow import FrameQueue, HeardFrame, LagGovernor, QueueClosed

if TYPE_CHECKING:  # at run time this module needs no model
    from moshi_mlx.runtime.session import Reply


class Microphone:
    """Source of `engine.converse`: frames as they are heard; `write` is to be given every reply.

    input, on_event: as of `Duplex`, whose devices and flow control it shares: where the model cannot keep up,
    frames are left out, silent ones first, and counted. Raises AudioDeviceError, here only.
    """

    def __init__(
        self, input: str | int | None = None, on_event: Callable[[DeviceEvent], None] | None = None
    ) -> None:
        self._on_event = on_event or (lambda event: None)
        self._capture = Capture()  # of which nothing is played: that counts as silence
        self._queue = FrameQueue(LagGovernor())
        self._told = False
        self._error: BaseException | None = None
        self._endpoint = Endpoint("input", input, self._capture.microphone)
        self._watchdog = Watchdog([self._endpoint], self._on_event, self._failed)
        self._watchdog.open()
        self._thread = threading.Thread(target=self._listen, name="moshi-microphone", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield frames as they come, (1920,) float32, until `close`. Raises what ended a thread of the device."""
        self._queue.clear()
        for frame in self._queue:
            yield frame.pcm
        if self._error:
            raise self._error

    def write(self, reply: Reply) -> None:
        """Note that the oldest frame has its answer, so that the pace of the model is known."""
        self._queue.answered()

    @property
    def dropped(self) -> int:
        """Frames that the model never heard."""
        return self._queue.dropped

    def describe(self) -> str:
        """Return a line about the device: its name and how it was opened."""
        stream = self._endpoint.stream
        return f"{self._endpoint.name}: {stream.device.name}, {stream.rate} Hz" if stream else self._endpoint.name

    def close(self) -> None:
        """Stop; what waits is heard no more. From any thread, within two seconds."""
        self._queue.abandon()
        self._capture.close()
        self._watchdog.close()

    def _listen(self) -> None:
        """Run the thread between the callbacks and the queue."""
        try:
            for near, _, captured in self._capture:
                self._check_silence()
                self._queue.put(HeardFrame(near, captured, is_silent(near)))
        except QueueClosed:
            pass  # closed while a frame was under way
        except BaseException as error:  # carried to the thread that iterates
            self._error = error
        finally:
            self._queue.close()

    def _check_silence(self) -> None:
        microphone = self._capture.microphone
        if not (self._told or microphone.sounds) and microphone.dead_seconds >= PERMISSION_SECONDS:
            self._told = True
            self._on_event(DeviceEvent("permission", permission_message()))

    def _failed(self, error: BaseException) -> None:
        self._error = self._error or error
        self._queue.close()
