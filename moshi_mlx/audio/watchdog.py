"""Opens the sound devices, notices when one fails, and opens it again when it is back.

A device that stalls, is unplugged or whose sound server dies raises nothing: its callbacks stop, or bring zeros.
So the time of the last callback is watched. One thread makes all calls of PortAudio.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from moshi_mlx.audio.capture import Wakeup
from moshi_mlx.audio.devices import NAMES, Device, Kind, choose, find_again, next_device
from moshi_mlx.audio.portaudio import leave_to_the_system, look_again
from moshi_mlx.audio.streams import DeviceStream, Samples
from moshi_mlx.errors import AudioDeviceError

STALL = 0.6  # seconds without a callback, after which a device counts as lost
STEADY = 0.3  # seconds of callbacks until it counts as back: a stalled speaker still asks for the first blocks
# Seconds between attempts to open a device again, at first and at last: one that is back is to be used within 2 s.
# With each attempt the other device is opened anew, too.
RETRY, RETRY_MOST = 0.75, 1.2
SLEEP = 3.0  # seconds that the machine has slept, after which streams may be stale
# Linux has a clock of its own for that; on a Mac this one goes on in sleep, and that of `perf_counter` does not.
_ALSO_IN_SLEEP = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
CLOSE_SECONDS = 1.0  # a system call that hangs must not hang the program, which should end within 2 s


@dataclass(frozen=True)
class DeviceEvent:
    """Something a person should know about a device; `message` is one line for them."""

    kind: Literal["lost", "back", "changed", "permission", "slow"]
    message: str


class Endpoint:
    """The microphone or the speaker of a conversation: the device wanted for it, and its stream while one is open.

    wanted: as in `choose`. samples: where the samples of its devices go or come from, one after the other.
    """

    def __init__(self, kind: Kind, wanted: str | int | None, samples: Samples) -> None:
        self.name = NAMES[kind]
        self.stream: DeviceStream | None = None
        self.device: Device | None = None  # the last one that was opened
        self.lost = False
        self.reopen = False  # asked for by another thread
        self.advance = False  # likewise: with the device after this one
        self.next_try = 0.0
        self._pause = RETRY
        self._kind: Kind = kind
        self._wanted, self._samples = wanted, samples
        self._xruns = 0  # of the streams before this one

    def open(self, ended: Callable[[], None]) -> None:
        """Open the device that was asked for, or the system's default of now; `ended` as for `DeviceStream`.

        Raises AudioDeviceError.
        """
        if self.advance:
            device = next_device(self._kind, self.device)
            self._wanted, self.device = device.name, device  # should it not open, the one after it is next
        elif self._wanted is None or self.device is None:
            device = choose(self._kind, self._wanted)
        else:
            device = find_again(self._kind, self.device)
        stream = DeviceStream(self._kind, device, self._samples, ended)
        stream.start()
        self.stream, self.device, self.advance = stream, device, False

    def close(self) -> None:
        """Close the device; does nothing if none is open."""
        stream, self.stream = self.stream, None
        if stream is not None:
            self._xruns += stream.xruns
            stream.close()

    def postpone(self) -> None:
        """Set the time of the next attempt to open a device: the first is at once, the others ever later."""
        self.next_try = time.perf_counter() + (self._pause if self.lost else 0)
        self._pause = min(self._pause * 1.5, RETRY_MOST)

    def recover(self) -> None:
        """Count the device as back."""
        self.lost, self._pause = False, RETRY

    @property
    def xruns(self) -> int:
        """How often the system lost samples, with this stream and those before."""
        return self._xruns + (self.stream.xruns if self.stream else 0)


class Watchdog:
    """Keeps the devices of the endpoints open until `close`.

    tell: gets the events, on the watchdog's thread. failed: gets what ended that thread after all were open, an
    AudioDeviceError if it was a device without a clock.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        tell: Callable[[DeviceEvent], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._endpoints = endpoints
        self._tell, self._failed = tell, failed
        self._wakeup = Wakeup()
        self._closing = False
        self._patience = CLOSE_SECONDS  # left for closing: whoever calls `close` again waits no longer for it
        self._opened = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="moshi-devices", daemon=True)

    def open(self) -> None:
        """Open all devices. Raises AudioDeviceError; then none is open."""
        self._thread.start()
        try:
            self._opened.wait()
        except BaseException:  # Ctrl-C, while the system opens a device or hangs in it
            self.close()
            raise
        if self._error:
            self._thread.join(CLOSE_SECONDS)
            raise self._error

    def close(self) -> None:
        """Close all devices, within a second even if one hangs; from any thread, also more than once."""
        self._closing = True
        self._wakeup.set()
        began = time.perf_counter()
        self._thread.join(self._patience)
        self._patience = max(0.0, self._patience - (time.perf_counter() - began))
        if self._thread.is_alive():
            leave_to_the_system()

    def reopen(self, endpoint: Endpoint) -> None:
        """Soon close a device and open it again, for it seems dead though it calls back; from any thread."""
        endpoint.reopen = True
        self._wakeup.set()

    def next_device(self, endpoint: Endpoint) -> None:
        """Soon close a device and open the one that the system lists after it; from any thread."""
        endpoint.advance = True
        self.reopen(endpoint)

    @property
    def lost(self) -> list[str]:
        """Names of the endpoints whose device is lost: "microphone", "speaker"."""
        return [endpoint.name for endpoint in self._endpoints if endpoint.lost]

    def _run(self) -> None:
        try:
            for endpoint in self._endpoints:
                endpoint.open(self._wakeup.set)
            self._opened.set()
            slept = _slept()
            while not self._closing:
                self._wakeup.wait(self._due() - time.perf_counter())
                before, slept = slept, _slept()
                if slept - before > SLEEP:
                    self._open_anew()
                for endpoint in self._endpoints:
                    if not self._closing:
                        self._look_after(endpoint)
        except BaseException as error:  # carried to the thread that waits in `open`, or for audio
            if self._opened.is_set():
                self._failed(error)
            else:
                self._error = error
        finally:
            for endpoint in self._endpoints:
                endpoint.close()
            self._opened.set()

    def _due(self) -> float:
        """Return when there is something to check."""
        now = time.perf_counter()
        times = [now + STALL]
        for endpoint in self._endpoints:
            stream = endpoint.stream
            if stream is None:
                times.append(endpoint.next_try)
            elif endpoint.lost and now < stream.started + STEADY:
                times.append(stream.started + STEADY)
            else:
                times.append(stream.last_sign + STALL)
        return min(times) + 0.02  # a callback's time later, so that what is due has happened

    def _look_after(self, endpoint: Endpoint) -> None:
        now = time.perf_counter()
        stream = endpoint.stream
        if stream is not None and (stream.ended or now - stream.last_sign > STALL):
            self._mark_lost(endpoint)  # said first: closing what has stalled may take long
            endpoint.close()
        elif stream is not None and stream.clockless:
            raise AudioDeviceError(
                f"the {endpoint.name} {stream.device.name} has no clock: sound passes it much faster than "
                "real time, as with null devices; choose another (--input, --output), "
                "`moshi-mlx devices` lists them"
            )
        elif endpoint.reopen:
            endpoint.close()
            endpoint.next_try = now
        elif endpoint.lost and stream is not None and stream.last_sign > stream.started + STEADY:
            endpoint.recover()
            self._tell(DeviceEvent("back", f"the {endpoint.name} is back: {stream.device.name}"))
        endpoint.reopen = False
        if endpoint.stream is None and now >= endpoint.next_try and not self._try(endpoint):
            self._open_anew()

    def _mark_lost(self, endpoint: Endpoint) -> None:
        endpoint.postpone()
        if not endpoint.lost:
            endpoint.lost = True
            name = f" {endpoint.device.name}" if endpoint.device else ""
            message = f"the {endpoint.name}{name} has stopped or gone; waiting until it is back"
            self._tell(DeviceEvent("lost", message))

    def _open_anew(self) -> None:
        """Have PortAudio list the devices again, and open all endpoints."""
        for endpoint in self._endpoints:
            endpoint.close()
        with contextlib.suppress(AudioDeviceError):  # then there are none, as is found out below
            look_again()
        for endpoint in self._endpoints:
            self._try(endpoint)

    def _try(self, endpoint: Endpoint) -> bool:
        """Open a device again. Returns whether it did; if not, the device is lost."""
        changed = endpoint.advance
        try:
            endpoint.open(self._wakeup.set)
        except AudioDeviceError:
            self._mark_lost(endpoint)
            return False
        if changed and endpoint.device:
            self._tell(DeviceEvent("changed", f"the {endpoint.name} is now {endpoint.device.name}"))
        return True


def _slept() -> float:
    """Seconds that the machine has slept; a clock that somebody sets has no say in it."""
    return time.clock_gettime(_ALSO_IN_SLEEP) - time.perf_counter()
