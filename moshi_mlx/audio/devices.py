"""Finding microphones and speakers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from moshi_mlx.audio.portaudio import explained, portaudio, suppressed_stderr
from moshi_mlx.errors import AudioDeviceError, some

Kind = Literal["input", "output"]
NAMES: dict[Kind, str] = {"input": "microphone", "output": "speaker"}
RATES = (16_000, 24_000, 44_100, 48_000)  # Hz, in use for voices


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
        """How many channels it has in one direction, 0 if it has none."""
        return self.inputs if kind == "input" else self.outputs

    def is_default(self, kind: Kind) -> bool:
        """Whether the system takes it where none is named."""
        return self.default_input if kind == "input" else self.default_output

    def __str__(self) -> str:
        return f"{self.index} {self.name}"


def list_devices() -> list[Device]:
    """List all sound devices, without opening any. Raises AudioDeviceError if PortAudio is missing or fails."""
    sound = portaudio()
    with suppressed_stderr, explained("sound devices cannot be listed"):
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
    """Find the microphone ("input") or speaker ("output") a person means.

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


def next_device(kind: Kind, device: Device | None) -> Device:
    """Return the device that the system lists after this one, the first after the last.

    Raises AudioDeviceError if there is none.
    """
    devices = list_devices()
    first = choose(kind, None, devices)  # to complain if there is none
    usable = [other for other in devices if other.channels(kind)]
    after = [other for other in usable if other.index > (device or first).index]
    return _with_twins(kind, (after or usable)[0], usable)


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
    """Return those of RATES at which a device can be opened, Hz; [] also for a device that is in use."""
    sound = portaudio()
    check = sound.check_input_settings if kind == "input" else sound.check_output_settings
    channels = min(2, device.channels(kind))
    rates = []
    for rate in RATES:
        with suppressed_stderr:
            try:
                check(device=device.index, channels=channels, dtype="float32", samplerate=rate)
            except sound.PortAudioError:
                continue
        rates.append(rate)
    return rates
