"""One direction of one sound device, running."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

import numpy as np

from moshi_mlx.audio.devices import (
    HOST_ERROR,
    INVALID_CHANNELS,
    INVALID_DEVICE,
    NAMES,
    UNAVAILABLE,
    Device,
    Kind,
    hushed,
    portaudio,
    reason,
)
from moshi_mlx.errors import AudioDeviceError
from moshi_mlx.frames import SAMPLE_RATE

BLOCK_SECONDS = 0.02  # per callback; the device's own buffers are multiples of it, a whole frame would add 200 ms


class DeviceStream:
    """An open device that calls `process` with one block of samples after the other.

    Opened at 24 kHz where the device takes that, else at its own rate; `rate` and `channels` say how.
    process: gets (samples, channels) float32, to read for an input and to fill for an output; from PortAudio's
    thread, so it must neither wait nor raise. ended: called when the device stopped by itself, from there too.
    Raises AudioDeviceError if the device cannot be opened.
    """

    def __init__(
        self, kind: Kind, device: Device, process: Callable[[np.ndarray], None], ended: Callable[[], None]
    ) -> None:
        self.device = device
        self.beat = 0.0  # perf_counter of the last callback
        self.ended = False
        self.stumbles = 0  # times the system lost samples before or after the callback
        self._process = process
        self._tell_ended = ended
        self._open = portaudio().InputStream if kind == "input" else portaudio().OutputStream
        with hushed():
            self._stream = self._opened(kind)
        self.rate = round(self._stream.samplerate)
        if self.rate < 1:  # ALSA may call a device open that has just gone
            self.close()
            raise refused(kind, device, portaudio().PortAudioError("it has no sample rate", HOST_ERROR))
        self.channels: int = self._stream.channels
        self.latency: float = self._stream.latency  # seconds, as the system reports it

    def start(self) -> None:
        """Let the callbacks begin. Raises AudioDeviceError."""
        sound = portaudio()
        try:
            with hushed():
                self._stream.start()
        except sound.PortAudioError as error:
            self.close()
            raise AudioDeviceError(f"{self.device.name} does not start: {reason(error)}") from None

    def close(self) -> None:
        """Give the device back, at once and whatever has become of it."""
        with hushed(), contextlib.suppress(portaudio().PortAudioError):
            self._stream.abort()  # not stop(): that waits for ever for a device that has stalled
        with hushed(), contextlib.suppress(portaudio().PortAudioError):
            self._stream.close()

    def _opened(self, kind: Kind):
        sound = portaudio()
        device = self.device
        most = device.channels(kind)
        first = None
        for rate in dict.fromkeys((SAMPLE_RATE, device.rate, 48_000, 44_100, 16_000)):
            for channels in dict.fromkeys((min(2, most), 1, most)):
                try:
                    return self._open(
                        samplerate=rate,
                        blocksize=round(rate * BLOCK_SECONDS),
                        device=device.index,
                        channels=channels,
                        dtype="float32",
                        latency="low",
                        callback=self._callback,
                        finished_callback=self._finished,
                    )
                except sound.PortAudioError as error:
                    first = first or error
                    code = error.args[1] if len(error.args) > 1 else None
                    if code in (UNAVAILABLE, INVALID_DEVICE):
                        raise refused(kind, device, error) from None
                    if code != INVALID_CHANNELS:
                        break  # another number of channels would not help, another rate may
        assert first is not None
        raise refused(kind, device, first)

    def _callback(self, block: np.ndarray, samples: int, times, status) -> None:
        self.beat = time.perf_counter()
        if status:
            self.stumbles += 1
        self._process(block)

    def _finished(self) -> None:
        self.ended = True
        self._tell_ended()


def refused(kind: Kind, device: Device, error: Exception) -> AudioDeviceError:
    return AudioDeviceError(f"the {NAMES[kind]} {device.name} cannot be opened: {reason(error)}")
