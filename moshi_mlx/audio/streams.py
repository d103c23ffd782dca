"""One direction of one sound device, open."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from moshi_mlx.audio.devices import NAMES, Device, Kind
from moshi_mlx.audio.portaudio import (
    HOST_ERROR,
    INVALID_CHANNELS,
    INVALID_DEVICE,
    UNAVAILABLE,
    explained,
    portaudio,
    reason,
    suppressed_stderr,
)
from moshi_mlx.errors import AudioDeviceError
from moshi_mlx.frames import SAMPLE_RATE

BLOCK_SECONDS = 0.02  # per callback; the device's own buffers are multiples of it, a whole frame would add 200 ms

# Of `Surplus`: more than any device's buffer holds (PulseAudio's: 4 MiB, 22 s). A clock that is off by a little
# never gathers so much, for what is less than a quarter too fast does not count.
MOST_SURPLUS = 30.0  # seconds of sound
FAST = 1.25  # times real time


class Samples(Protocol):
    """Where the samples of a device go or come from."""

    def prepare(self, rate: int) -> None:
        """Be ready for a device of this rate, Hz, before it calls back for the first time."""
        ...

    def fill(self, block: np.ndarray) -> None:
        """Read a microphone's block, or fill a speaker's: (samples, channels) float32, any number of samples.

        Called on PortAudio's thread, so it must neither wait nor raise.
        """
        ...


class Surplus:
    """Whether a device has a clock: how much more sound its callbacks brought, or took, than time has passed.

    Null devices call back as fast as the processor can. A device that stalled and then catches up brings no more
    than its buffer holds, and one whose clock is fast only a little more all the time.
    """

    def __init__(self, now: float) -> None:
        """now: seconds of the clock in use."""
        self._last = now
        self._seconds = 0.0

    def add(self, seconds: float, now: float) -> bool:
        """Take what one callback brought, in seconds of sound. Returns whether it is too much for any clock."""
        passed, self._last = now - self._last, now
        self._seconds = max(0.0, self._seconds - FAST * passed) + seconds
        return self._seconds > MOST_SURPLUS


class DeviceStream:
    """An open device that calls `samples.fill` with one block after the other, from `start` to `close`.

    Opened at 24 kHz where the device takes that, else at its own rate; `rate` says which, in Hz.
    ended: called on PortAudio's thread when the device stopped by itself, or turned out to have no clock.
    Raises AudioDeviceError if the device cannot be opened.
    """

    def __init__(self, kind: Kind, device: Device, samples: Samples, ended: Callable[[], None]) -> None:
        self.device = device
        self.started = 0.0  # perf_counter of `start`
        self.last_sign = 0.0  # perf_counter of the last callback, or of `start`
        self.ended = False
        self.clockless = False  # it calls back as fast as it can
        self.xruns = 0  # how often the system lost samples before or after the callback, as it says itself
        self._samples = samples
        self._tell_ended = ended
        with suppressed_stderr:
            self._stream = self._opened(kind)
        self.rate = round(self._stream.samplerate)
        if self.rate < 1:  # ALSA may call a device open that has just gone
            self.close()
            raise refused(kind, device, portaudio().PortAudioError("it has no sample rate", HOST_ERROR))
        self.latency: float = self._stream.latency  # seconds, as the system reports it

    def start(self) -> None:
        """Let the callbacks begin. Raises AudioDeviceError."""
        self._samples.prepare(self.rate)
        self.started = self.last_sign = time.perf_counter()
        self._surplus = Surplus(self.started)
        try:
            with suppressed_stderr, explained(f"{self.device.name} does not start"):
                self._stream.start()
        except AudioDeviceError:
            self.close()
            raise

    def close(self) -> None:
        """Close the device, at once and whatever has become of it."""
        for close in (self._stream.abort, self._stream.close):  # stop() waits for ever if it has stalled
            with suppressed_stderr, contextlib.suppress(portaudio().PortAudioError):
                close()

    def _opened(self, kind: Kind) -> Any:
        """Open a stream of PortAudio, at the first rate and with the first number of channels that it takes."""
        sound, device = portaudio(), self.device
        opened = sound.InputStream if kind == "input" else sound.OutputStream
        most = device.channels(kind)
        first = None
        for rate in dict.fromkeys((SAMPLE_RATE, device.rate, 48_000, 44_100, 16_000)):
            for channels in dict.fromkeys((min(2, most), 1, most)):
                try:
                    return opened(
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

    def _callback(self, block: np.ndarray, samples: int, times: Any, status: Any) -> None:
        self.last_sign = time.perf_counter()
        if status:
            self.xruns += 1
        if self._surplus.add(samples / self.rate, self.last_sign) and not self.clockless:
            self.clockless = True
            self._tell_ended()
        self._samples.fill(block)

    def _finished(self) -> None:
        self.ended = True
        self._tell_ended()


def refused(kind: Kind, device: Device, error: Exception) -> AudioDeviceError:
    """What to raise where PortAudio does not open a device."""
    return AudioDeviceError(f"the {NAMES[kind]} {device.name} cannot be opened: {reason(error)}")
