"""Listing and choosing devices, and saying what is wrong in one line."""

import builtins
import ctypes
import os
import sys
import threading
from typing import Any

import pytest

from moshi_mlx.audio import devices
from moshi_mlx.audio.devices import Device, choose, list_devices, next_device, opening_rates
from moshi_mlx.audio.portaudio import look_again, portaudio, reason, suppressed_stderr, unsuppressed_stderr
from moshi_mlx.errors import AudioDeviceError
from tests.sound_card import SoundCard


def device(index: int, name: str, inputs: int, outputs: int, default: str = "") -> Device:
    return Device(index, name, "Core Audio", inputs, outputs, 48_000, "in" in default, "out" in default)


MAC = [
    device(0, "AirPods", 1, 0),
    device(1, "AirPods", 0, 2, "out"),
    device(2, "MacBook Pro Microphone", 1, 0, "in"),
    device(3, "MacBook Pro Speakers", 0, 2),
    device(4, "USB Audio", 2, 2),
    device(5, "USB Audio 2", 2, 2),
]


@pytest.mark.parametrize(
    ("kind", "wanted", "index"),
    [
        ("input", None, 2),
        ("output", None, 1),
        ("input", 4, 4),
        ("input", "4", 4),
        ("input", "airpods", 0),
        ("output", "airpods", 1),
        ("output", " macbook", 3),
        ("input", "USB Audio", 4),  # the whole name of one, though part of another's
        ("input", "audio 2", 5),
    ],
)
def test_a_device_is_chosen_by_number_name_or_part_of_it(kind: Any, wanted: str | int | None, index: int) -> None:
    assert choose(kind, wanted, MAC).index == index


@pytest.mark.parametrize(
    ("kind", "wanted", "named"),
    [
        ("input", "headset", ["'headset'", "0 AirPods", "2 MacBook Pro Microphone", "5 USB Audio 2"]),
        ("input", 3, ["no microphone 3", "4 USB Audio"]),
        ("output", "99", ["no speaker '99'", "3 MacBook Pro Speakers"]),
        ("output", "usb", ["fits 2 speakers", "4 USB Audio, 5 USB Audio 2"]),
    ],
)
def test_a_choice_that_fits_none_or_several_names_what_there_is(kind: Any, wanted: Any, named: list[str]) -> None:
    with pytest.raises(AudioDeviceError) as raised:
        choose(kind, wanted, MAC)
    message = str(raised.value)
    assert all(part in message for part in named), message
    assert "\n" not in message


def test_without_a_default_the_first_usable_device_is_taken() -> None:
    assert choose("input", None, [MAC[1], MAC[4], MAC[5]]).index == 4


@pytest.mark.parametrize("there", [[], [MAC[1]]])
def test_a_machine_without_a_microphone_is_told_so(there: list[Device]) -> None:
    with pytest.raises(AudioDeviceError, match="no microphone on this machine: connect one"):
        choose("input", None, there)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("Error opening InputStream: Device unavailable", -9985), "in use by another program"),
        (("Error opening InputStream: Invalid sample rate", -9997), "none of the usual sample rates"),
        (("Error opening OutputStream: Invalid device", -9996), "connect it again"),
        (("x: Unanticipated host error", -9999, (0, -5, "Input/output error")), "Input/output error"),
        (("Error opening InputStream: Internal\nPortAudio error", -9986), "Internal PortAudio error"),
        (("Error querying device -1",), "Error querying device -1"),
    ],
)
def test_every_error_of_portaudio_becomes_one_line_with_a_remedy(args: tuple, says: str) -> None:
    message = reason(Exception(*args))
    assert says in message
    assert "\n" not in message
    assert ";" in message


@pytest.mark.parametrize(
    ("error", "remedy"),
    [(ImportError("no"), "pip install sounddevice"), (OSError("no"), "apt install libportaudio2")],
)
def test_a_missing_library_is_named_with_its_remedy(
    error: Exception, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def refuse(name: str, *rest: Any) -> Any:
        if name == "sounddevice":
            raise error
        return real(name, *rest)

    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(AudioDeviceError, match=remedy):
        portaudio()


def test_what_libraries_print_to_stderr_is_kept_away_and_only_for_that_time(capfd: pytest.CaptureFixture) -> None:
    with suppressed_stderr:
        os.write(2, b"ALSA lib says\n")
        with suppressed_stderr:
            os.write(2, b"three lines\n")
        os.write(2, b"for nothing\n")
    os.write(2, b"of use\n")
    assert capfd.readouterr().err == "of use\n"


def test_threads_that_suppress_stderr_do_not_wait_for_each_other(capfd: pytest.CaptureFixture) -> None:
    entered, go_on = threading.Event(), threading.Event()

    def hang() -> None:
        with suppressed_stderr:
            entered.set()
            go_on.wait(60)

    other = threading.Thread(target=hang)
    other.start()
    assert entered.wait(60)
    with suppressed_stderr:
        os.write(2, b"nothing\n")
    os.write(2, b"still nothing: the other is within\n")
    go_on.set()
    other.join()
    os.write(2, b"seen\n")
    assert capfd.readouterr().err == "seen\n"


def test_own_words_are_seen_while_stderr_is_suppressed(capfd: pytest.CaptureFixture) -> None:
    with unsuppressed_stderr() as stream, suppressed_stderr:
        print("lost – waiting", file=stream)
        os.write(2, b"ALSA lib says\n")
    assert capfd.readouterr().err == "lost – waiting\n"


def test_without_a_file_behind_stderr_it_is_used_as_it_is(capsys: pytest.CaptureFixture) -> None:
    with unsuppressed_stderr() as stream:
        assert stream is sys.stderr
        print("words", file=stream)
    assert capsys.readouterr().err == "words\n"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="ALSA is Linux's")
def test_alsa_prints_nothing_even_where_stderr_is_not_suppressed(
    sound_card: SoundCard, capfd: pytest.CaptureFixture
) -> None:
    alsa = ctypes.CDLL("libasound.so.2")
    portaudio()
    assert alsa.snd_pcm_open(ctypes.byref(ctypes.c_void_p()), b"no such device", 0, 0) < 0
    assert capfd.readouterr().err == ""


def test_the_devices_of_a_sound_card_are_listed_with_the_rates_that_open(sound_card: SoundCard) -> None:
    listed = {device.name: device for device in list_devices()}
    assert {"virtmic", "virtspk"} <= listed.keys()
    assert [device.index for device in listed.values()] == list(range(len(listed)))
    assert sum(device.default_input for device in listed.values()) == 1
    assert 24_000 in opening_rates(listed["virtmic"], "input")
    assert 24_000 in opening_rates(listed["virtspk"], "output")
    sound_card.unload("mic")
    assert opening_rates(listed["virtmic"], "input") == []


TWINS = [device(0, "Built-in", 2, 0, "in"), device(1, "Thunderbolt", 2, 0), device(2, "Thunderbolt", 2, 0)]
REORDERED = [device(0, "New", 2, 0), *(device(i + 1, d.name, 2, 0) for i, d in enumerate(TWINS))]
CARD_1, CARD_2 = (device(0, f"USB Mic: Audio (hw:{card},0)", 1, 0) for card in (1, 2))


@pytest.mark.parametrize(
    ("before", "wanted", "after", "index"),
    [
        (TWINS, 2, TWINS, 2),
        (TWINS, 1, TWINS, 1),
        (TWINS, 2, REORDERED, 3),
        (TWINS, 0, TWINS[:1], 0),
        ([CARD_1], 0, [CARD_2], 0),
        (TWINS, 2, TWINS[:2], "there were 2 microphones called Thunderbolt, now 1"),
        (TWINS, 2, TWINS[:1], "the microphone Thunderbolt has gone"),
        ([CARD_1], 0, TWINS, "has gone"),
    ],
)
def test_a_device_is_found_again_or_said_to_be_gone(
    monkeypatch: pytest.MonkeyPatch, before: list[Device], wanted: int, after: list[Device], index: int | str
) -> None:
    chosen = choose("input", wanted, before)
    monkeypatch.setattr(devices, "list_devices", lambda: after)
    if isinstance(index, int):
        assert devices.find_again("input", chosen).index == index
    else:
        with pytest.raises(AudioDeviceError, match=index):
            devices.find_again("input", chosen)


def test_devices_that_went_are_noticed_by_looking_again(sound_card: SoundCard) -> None:
    known = choose("input", "virtmic")
    assert devices.find_again("input", known) == known
    sound_card.kill()
    look_again()
    with pytest.raises(AudioDeviceError, match="virtmic has gone"):
        devices.find_again("input", known)


def test_the_next_device_is_the_one_that_the_system_lists_after_it(sound_card: SoundCard) -> None:
    usable = [one for one in list_devices() if one.channels("output")]
    first = choose("output", "virtspk")
    seen, at = [], first
    for _ in usable:
        at = next_device("output", at)
        seen.append(at.index)
    assert sorted(seen) == [one.index for one in usable], "each once"
    assert seen[-1] == first.index
