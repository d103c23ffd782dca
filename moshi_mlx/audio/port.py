"""One direction of a conversation's sound: the device for it, and its stream while there is one."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

import numpy as np

from moshi_mlx.audio.devices import NAMES, Device, Kind, choose, find_again
from moshi_mlx.audio.streams import DeviceStream

STEADY = 0.3  # seconds of callbacks until it counts as back: a stalled speaker still asks for the first blocks
RETRY = 1.0  # seconds between attempts to open it again, at first


class Samples(Protocol):
    """Where the samples of a device come from or go to."""

    def prepare(self, rate: int) -> None:
        """A device of this rate (Hz) comes next."""
        ...

    def fill(self, block: np.ndarray) -> None:
        """Take or give one block, (samples, channels) float32; called by the device."""
        ...


class Port:
    """One direction: the device a person wants for it, and its stream while there is one."""

    def __init__(self, kind: Kind, wanted: str | int | None, samples: Samples) -> None:
        self.kind: Kind = kind
        self.name = NAMES[kind]
        self.stream: DeviceStream | None = None
        self.device: Device | None = None  # the last one that was opened
        self.lost = False
        self.reopen = False  # wanted by another thread
        self._wanted = wanted
        self._samples = samples
        self.started = 0.0
        self.pause = RETRY  # until the next attempt but one
        self.next_try = 0.0
        self._stumbles = 0

    def open(self, ended: Callable[[], None]) -> None:
        """Open the device a person named, or the system's default of now; `ended` as for `DeviceStream`.

        Raises AudioDeviceError.
        """
        if self._wanted is None or self.device is None:
            device = choose(self.kind, self._wanted)
        else:
            device = find_again(self.kind, self.device)
        stream = DeviceStream(self.kind, device, self._samples.fill, ended)
        self._samples.prepare(stream.rate)
        self.started = time.perf_counter()
        stream.start()
        self.stream, self.device = stream, device

    def close(self) -> None:
        """Give the device back; does nothing if none is open."""
        stream, self.stream = self.stream, None
        if stream is not None:
            self._stumbles += stream.stumbles
            stream.close()

    @property
    def stumbles(self) -> int:
        """Times the system lost samples, of this stream and those before."""
        return self._stumbles + (self.stream.stumbles if self.stream else 0)

    @property
    def quiet_since(self) -> float:
        """Time of the last sign of life of the open stream."""
        return max(self.started, self.stream.beat if self.stream else 0.0)

    @property
    def steady(self) -> bool:
        """Whether the open stream has proved to work."""
        return self.stream is not None and self.stream.beat > self.started + STEADY
