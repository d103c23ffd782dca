"""Opens the sound devices, notices when one fails, and opens it again when it is back.

A device that stalls, is unplugged or whose sound server dies raises nothing: its callbacks stop, or bring zeros.
So the callbacks' heartbeat is watched. One thread makes all calls of PortAudio.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from moshi_mlx.audio.capture import Wakeup
from moshi_mlx.audio.devices import leave_to_the_system, look_again
from moshi_mlx.audio.port import RETRY, STEADY, Port
from moshi_mlx.errors import AudioDeviceError

STALL = 0.6  # seconds without a callback, after which a device counts as gone
RETRY_MOST = 3.0  # seconds between attempts to open a device again, at last
SLEEP = 3.0  # seconds the clock on the wall went on without us: the machine slept, and streams may be stale
CLOSE_SECONDS = 1.0  # a system call that hangs must not hang the program, which should end within 2 s


@dataclass(frozen=True)
class DeviceEvent:
    """Something a person should know about a device; `message` is one line for them."""

    kind: Literal["lost", "back", "permission", "slow"]
    message: str


class Watchdog:
    """Keeps the ports open until `close`.

    tell: gets the events, on the thread of the watchdog. failed: gets what ended that thread once all were open.
    """

    def __init__(
        self,
        ports: Sequence[Port],
        tell: Callable[[DeviceEvent], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._ports = ports
        self._tell, self._failed = tell, failed
        self._wakeup = Wakeup()
        self._closing = False
        self._patience = CLOSE_SECONDS  # left for closing: whoever calls `close` again waits no longer for it
        self._opened = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="moshi-devices", daemon=True)

    def open(self) -> None:
        """Open all ports. Raises AudioDeviceError; then none is open."""
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
        """Close all ports, within a second whatever has become of the devices; calling it twice is fine."""
        self._closing = True
        self._wakeup.set()
        began = time.perf_counter()
        self._thread.join(self._patience)
        self._patience = max(0.0, self._patience - (time.perf_counter() - began))
        if self._thread.is_alive():
            leave_to_the_system()

    def reopen(self, port: Port) -> None:
        """Open a port anew, soon: its device seems dead though it does call."""
        port.reopen = True
        self._wakeup.set()

    @property
    def lost(self) -> list[str]:
        """Names of the ports whose device has gone."""
        return [port.name for port in self._ports if port.lost]

    def _run(self) -> None:
        try:
            for port in self._ports:
                port.open(self._wakeup.set)
            self._opened.set()
            ahead = _wall_ahead()
            while not self._closing:
                self._wakeup.wait(self._due() - time.perf_counter())
                before, ahead = ahead, _wall_ahead()
                if ahead - before > SLEEP:
                    self._open_anew()
                for port in self._ports:
                    if not self._closing:
                        self._look_after(port)
        except BaseException as error:  # carried to the thread that waits in `open`, or for audio
            if self._opened.is_set():
                self._failed(error)
            else:
                self._error = error
        finally:
            for port in self._ports:
                port.close()
            self._opened.set()

    def _due(self) -> float:
        """When there is something to check."""
        now = time.perf_counter()
        times = [now + STALL]
        for port in self._ports:
            if port.stream is None:
                times.append(port.next_try)
            elif port.lost and now < port.started + STEADY:
                times.append(port.started + STEADY)
            else:
                times.append(port.quiet_since + STALL)
        return min(times) + 0.02  # a callback's time later, so that what is due has happened

    def _look_after(self, port: Port) -> None:
        now = time.perf_counter()
        if port.stream is not None and (port.stream.ended or now - port.quiet_since > STALL):
            self._mark_lost(port)  # said first: closing what has stalled may take long
            port.close()
        elif port.reopen:
            port.close()
            port.next_try = now
        elif port.lost and port.steady:
            port.lost, port.pause = False, RETRY
            self._tell(DeviceEvent("back", f"the {port.name} is back: {port.device and port.device.name}"))
        port.reopen = False
        if port.stream is None and now >= port.next_try:
            self._try(port)

    def _mark_lost(self, port: Port) -> None:
        port.next_try = time.perf_counter() + (port.pause if port.lost else 0)
        port.pause = min(port.pause * 1.5, RETRY_MOST)
        if not port.lost:
            port.lost = True
            name = f" {port.device.name}" if port.device else ""
            self._tell(DeviceEvent("lost", f"the {port.name}{name} has stopped or gone; waiting until it is back"))

    def _try(self, port: Port) -> None:
        """Open a port; if it cannot be, have PortAudio look for devices and open all anew."""
        try:
            port.open(self._wakeup.set)
            return
        except AudioDeviceError:
            self._mark_lost(port)
        self._open_anew()

    def _open_anew(self) -> None:
        """Have PortAudio look which devices there are, and open all ports."""
        for port in self._ports:
            port.close()
        with contextlib.suppress(AudioDeviceError):  # then there are none, as is found out below
            look_again()
        for port in self._ports:
            try:
                port.open(self._wakeup.set)
            except AudioDeviceError:
                self._mark_lost(port)


def _wall_ahead() -> float:
    """Seconds by which the clock on the wall is ahead of the one that stands still while a Mac sleeps."""
    return time.time() - time.perf_counter()
