"""`moshi-mlx devices`: a list for people and for programs, and one line when there can be none."""

import json

import pytest

from moshi_mlx.audio import devices as audio_devices
from moshi_mlx.audio.portaudio import look_again
from moshi_mlx.cli.devices import page
from moshi_mlx.errors import AudioDeviceError
from tests.sound_card import SoundCard


def test_devices_are_listed_for_people_and_programs(sound_card: SoundCard, moshi_cli) -> None:
    done = moshi_cli("devices")
    assert done.code == 0
    microphones, speakers = done.out.split("Speakers:")
    assert "virtmic (ALSA, 32 ch, 16, 24, 44.1, 48 kHz)" in microphones
    assert "virtspk (ALSA, 32 ch, 16, 24, 44.1, 48 kHz)" in speakers
    assert sum(line.startswith("*") for line in done.out.splitlines()) == 2
    listed = json.loads(moshi_cli("devices", "--json").out)["devices"]
    virtmic = next(device for device in listed if device["name"] == "virtmic")
    assert virtmic["host_api"] == "ALSA"
    assert virtmic["input"]["rates"] == [16_000, 24_000, 44_100, 48_000]
    assert [device["index"] for device in listed] == list(range(len(listed)))


def test_a_machine_without_devices_has_an_empty_list(sound_card: SoundCard, moshi_cli) -> None:
    sound_card.kill()
    look_again()
    done = moshi_cli("devices")
    assert done.code == 0
    assert done.out.split() == ["Microphones:", "none", "Speakers:", "none"]
    assert json.loads(moshi_cli("devices", "--json").out) == {"devices": []}


def test_without_portaudio_there_is_one_line(moshi_cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise AudioDeviceError("the PortAudio library is missing; brew install portaudio")

    monkeypatch.setattr(audio_devices, "portaudio", missing)
    done = moshi_cli("devices")
    assert done.code == 1
    assert done.err == "error: the PortAudio library is missing; brew install portaudio\n"


def test_a_device_in_one_direction_is_listed_there_only() -> None:
    microphone = {
        "index": 2,
        "name": "Built-in",
        "host_api": "Core Audio",
        "default_rate": 48_000,
        "input": {"channels": 1, "default": True, "rates": []},
    }
    assert page([microphone]).splitlines() == [
        "Microphones:",
        "*  2  Built-in (Core Audio, 1 ch, does not open)",
        "Speakers:",
        "     none",
    ]
