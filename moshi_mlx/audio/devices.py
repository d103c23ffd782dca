"""Finding microphones and speakers, and saying in one line what is wrong with them."""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Literal, TextIO

from moshi_mlx.errors import AudioDeviceError, some

Kind = Literal["input", "output"]
NAMES: dict[Kind, str] = {"input": "microphone", "output": "speaker"}
RATES = (16_000, 24_000, 44_100, 48_000)  # Hz, worth asking for

# PortAudio's error numbers (portaudio.h)
INVALID_RATE, INVALID_CHANNELS, INVALID_DEVICE = -9997, -9998, -9996
UNAVAILABLE, HOST_ERROR, INTERNAL_ERROR = -9985, -9999, -9986


@dataclass(frozen=True)
class Device:
    """A sound device as PortAudio knows it. Its index is good until devices come or go."""

    index: int
    name: str
    host_api: str  # "Core Audio", "ALSA"
    inputs: int  # channels
    outputs: int  # channels
    rate: int  # Hz, its own
    default_input: bool
    default_output: bool
    # Of those with the same name, known once it was chosen: which it is, and how many there are.
    twin: int = field(default=0, compare=False)
    twins: int = field(default=1, compare=False)

    def channels(self, kind: Kind) -> int:
        return self.inputs if kind == "input" else self.outputs

    def is_default(self, kind: Kind) -> bool:
        return self.default_input if kind == "input" else self.default_output

    def __str__(self) -> str:
        return f"{self.index} {self.name}"


def list_devices() -> list[Device]:
    """All sound devices; none is opened. Raises AudioDeviceError if PortAudio is missing or fails."""
    sound = portaudio()
    with hushed(), explained("sound devices cannot be listed"):
        apis = [api["name"] for api in sound.query_hostapis()]
        found: Any = sound.query_devices()
        default_input, default_output = sound.default.device
        return [
            Device(
                index=index,
                name=info["name"],
                host_api=apis[info["hostapi"]],
                inputs=info["max_input_channels"],
                outputs=info["max_output_channels"],
                rate=int(info["default_samplerate"]),
                default_input=index == default_input,
                default_output=index == default_output,
            )
            for index, info in enumerate(found)
        ]


def choose(kind: Kind, wanted: str | int | None = None, devices: Sequence[Device] | None = None) -> Device:
    """The microphone ("input") or speaker ("output") a person means.

    wanted: its index, its name, a part of its name that no other has, or None for the system's default.
    Raises AudioDeviceError if there is none or more than one such device.
    """
    devices = list_devices() if devices is None else devices
    usable = [device for device in devices if device.channels(kind)]
    name = NAMES[kind]
    if not usable:
        raise AudioDeviceError(f"there is no {name} on this machine: connect one; `moshi-mlx devices` lists them")
    if wanted is None:
        return _with_twins(kind, next((device for device in usable if device.is_default(kind)), usable[0]), usable)
    if isinstance(wanted, int) or wanted.strip().isdecimal():
        fitting = [device for device in usable if device.index == int(wanted)]
    else:
        text = wanted.strip().casefold()
        fitting = [device for device in usable if device.name.casefold() == text]
        fitting = fitting or [device for device in usable if text in device.name.casefold()]
    if not fitting:
        raise AudioDeviceError(f"there is no {name} {wanted!r}; there are: {some(map(str, usable), 6)}")
    if len(fitting) > 1:
        named = f"{len(fitting)} {name}s: {some(map(str, fitting), 6)}"
        raise AudioDeviceError(f"{wanted!r} fits {named}; give the number or more of the name")
    return _with_twins(kind, fitting[0], usable)


def find_again(kind: Kind, device: Device) -> Device:
    """Find a device that was chosen after devices came and went, whatever its index is now.

    Raises AudioDeviceError if it has gone, or if it had twins of the same name and their number is another now.
    """
    found = _twins(kind, device, list_devices())
    if not found:
        raise AudioDeviceError(f"the {NAMES[kind]} {device.name} has gone: connect it again, or choose another")
    if len(found) != device.twins and device.twins > 1:
        raise AudioDeviceError(
            f"there were {device.twins} {NAMES[kind]}s called {device.name}, now {len(found)}: "
            "connect all of them again, or choose another"
        )
    return replace(found[min(device.twin, len(found) - 1)], twin=device.twin, twins=device.twins)


def _with_twins(kind: Kind, device: Device, devices: Sequence[Device]) -> Device:
    twins = _twins(kind, device, devices)
    return replace(device, twin=twins.index(device), twins=len(twins))


def _twins(kind: Kind, device: Device, devices: Sequence[Device]) -> list[Device]:
    """Devices of the same name, itself included, in the system's order."""
    return [
        other
        for other in devices
        if other.channels(kind) and (_lasting(other), other.host_api) == (_lasting(device), device.host_api)
    ]


def _lasting(device: Device) -> str:
    """The name without the card's number, which ALSA gives in the order in which cards are connected."""
    return re.sub(r"\(hw:\d+,(\d+)\)", r"(hw:*,\1)", device.name)


def opening_rates(device: Device, kind: Kind) -> list[int]:
    """Those of RATES at which a device can be opened, Hz; [] also for a device that is in use."""
    sound = portaudio()
    check = sound.check_input_settings if kind == "input" else sound.check_output_settings
    channels = min(2, device.channels(kind))
    rates = []
    for rate in RATES:
        with hushed():
            try:
                check(device=device.index, channels=channels, dtype="float32", samplerate=rate)
            except sound.PortAudioError:
                continue
        rates.append(rate)
    return rates


def leave_to_the_system() -> None:
    """A call of PortAudio hangs: do not wait for it once more at the end, and let the last words be seen."""
    import atexit

    atexit.unregister(portaudio()._exit_handler)
    _hush.end()  # the call that hangs is hushed


@contextmanager
def own_stderr() -> Iterator[TextIO]:
    """Standard error for what must be seen even while something else is `hushed`."""
    try:
        number = os.dup(sys.stderr.fileno())
    except (AttributeError, OSError):  # there is none, or no system's file is behind it
        yield sys.stderr
        return
    with open(number, "w", buffering=1, encoding=sys.stderr.encoding, errors="backslashreplace") as stream:
        yield stream


def look_again() -> None:
    """Let PortAudio notice devices that came or went; it lists them only when it starts.

    Every stream must be closed. Raises AudioDeviceError.
    """
    sound = portaudio()
    with hushed(), explained("sound devices cannot be listed"):
        sound._terminate()
        sound._initialize()


def portaudio() -> Any:
    """The sounddevice module. Raises AudioDeviceError if it or the PortAudio library is missing."""
    try:
        import sounddevice
    except ImportError:
        raise AudioDeviceError("sounddevice is not installed; pip install sounddevice") from None
    except OSError:
        raise AudioDeviceError(
            "the PortAudio library is missing; apt install libportaudio2, or brew install portaudio"
        ) from None
    _silence_alsa()
    return sounddevice


@cache
def _silence_alsa() -> Any:
    """Keep ALSA from printing, at any time and from its own threads, what `DeviceStream` counts (Linux)."""
    if not sys.platform.startswith("linux"):
        return None
    import ctypes

    handler = ctypes.CFUNCTYPE(None)(lambda: None)  # it gets arguments, and may leave them alone
    with suppress(OSError, AttributeError):  # another sound system
        ctypes.CDLL("libasound.so.2").snd_lib_error_set_handler(handler)
    return handler  # kept by the cache: ALSA holds only its address


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn an error of PortAudio into an AudioDeviceError: "<what>: <reason and remedy>"."""
    try:
        yield
    except portaudio().PortAudioError as error:
        raise AudioDeviceError(f"{what}: {reason(error)}") from None


def reason(error: Exception) -> str:
    """What an error of PortAudio means and what to do, in one line."""
    text, code, host = (*error.args, None, None, None)[:3]
    said = f"{host[2]} ({host[1]})" if isinstance(host, tuple) and len(host) == 3 and host[2] else str(text)
    said = " ".join(said.partition("Error opening ")[2].partition(": ")[2].split() or said.split())
    if code == UNAVAILABLE:
        return "it is in use by another program or has gone; close that program or choose another device"
    if code in (INVALID_RATE, INVALID_CHANNELS):
        return "it takes none of the usual sample rates and channels; choose another device"
    if code == INVALID_DEVICE:
        return "it has gone; connect it again or choose another device"
    if code in (HOST_ERROR, INTERNAL_ERROR):
        return f"the system refused ({said}); is it connected, and not in use by another program?"
    return f"{said}; choose another device, `moshi-mlx devices` lists them"


class Hush:
    """Where file descriptor 2 leads, and how many do not want to see what is written to it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._saved: int | None = None  # where it led before

    def enter(self) -> None:
        with self._lock:
            self._users += 1
            if self._users > 1:
                return
            try:
                self._saved = os.dup(2)
            except OSError:  # there is no stderr, so nothing to keep clean
                return
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 2)
            os.close(nowhere)

    def leave(self) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                self._restore()

    def end(self) -> None:
        """Somebody does not come back: from now on all is seen, whoever is still within `hushed`."""
        with self._lock:
            self._restore()

    def _restore(self) -> None:
        if self._saved is not None:
            os.dup2(self._saved, 2)
            os.close(self._saved)
            self._saved = None


_hush = Hush()


@contextmanager
def hushed() -> Iterator[None]:
    """Keep what PortAudio and ALSA print themselves, several lines for one error, from the terminal.

    They write to the file descriptor, so for the time of the block it leads nowhere, for other threads too: what
    they have to say goes to `own_stderr`.
    """
    _hush.enter()
    try:
        yield
    finally:
        _hush.leave()
