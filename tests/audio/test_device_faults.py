"""Every fault of a device on a software sound card is noticed, said, and mended."""

import threading
from contextlib import closing

import numpy as np
import pytest

from moshi_mlx.audio import duplex as duplex_module
from moshi_mlx.audio import watchdog
from moshi_mlx.audio.duplex import Duplex, permission_message
from moshi_mlx.audio.portaudio import look_again, portaudio
from moshi_mlx.errors import AudioDeviceError
from tests.audio.talking import PATIENCE, SOME, clear_share, quick, talk, voice
from tests.sound_card import SoundCard

__all__ = ["quick"]


def test_a_microphone_that_stalls_is_noticed_and_comes_back(sound_card: SoundCard) -> None:
    with talk() as talking:
        talking.wait(2)
        sound_card.suspend("mic")
        assert talking.event() == ("lost", "microphone")
        assert talking.duplex.status().lost == ["microphone"]
        sound_card.suspend("mic", False)
        assert talking.event() == ("back", "microphone")
        talking.wait(3)
        assert talking.duplex.status().lost == []
        assert talking.events.empty()  # said once
        assert talking.echo.resets == 1, "what was learnt of another room is forgotten"


def test_closing_while_the_microphone_is_stalled_does_not_hang(sound_card: SoundCard) -> None:
    with talk() as talking:
        talking.wait(2)
        sound_card.suspend("mic")


def test_a_speaker_that_stalls_is_noticed_and_the_frames_go_on(sound_card: SoundCard) -> None:
    with talk() as talking:
        talking.wait(2)
        sound_card.suspend("spk")
        assert talking.event() == ("lost", "speaker")
        talking.wait(5)
        sound_card.suspend("spk", False)
        assert talking.event() == ("back", "speaker")
        with sound_card.listen() as heard:
            sound_card.speak(voice(1.0)).wait()
            talking.wait(10)
    assert clear_share(voice(1.0), heard[0]) > SOME


def test_a_sound_server_that_dies_is_noticed_and_both_devices_come_back(sound_card: SoundCard) -> None:
    with talk() as talking:
        talking.wait(2)
        sound_card.kill()
        assert {talking.event(), talking.event()} == {("lost", "microphone"), ("lost", "speaker")}
        sound_card.start()
        assert {talking.event(), talking.event()} == {("back", "microphone"), ("back", "speaker")}
        sound_card.speak(voice(1.0)).wait()
        talking.wait(5)
    assert clear_share(voice(1.0), np.concatenate(talking.echo.near)) > SOME


def test_after_the_machine_slept_the_devices_are_opened_anew(
    sound_card: SoundCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = threading.Event()
    looks = watchdog.look_again

    def look() -> None:
        looks()
        looked.set()

    monkeypatch.setattr(watchdog, "look_again", look)
    with talk() as talking:
        talking.wait(2)
        monkeypatch.setattr(watchdog, "_slept", lambda: 1e12)
        assert looked.wait(PATIENCE)
        talking.wait(3)
        assert talking.events.empty()


def test_a_microphone_that_is_unplugged_is_noticed_though_its_callbacks_go_on(
    sound_card: SoundCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duplex_module, "DEAD_SECONDS", 0.5)
    with talk() as talking:
        sound_card.speak(voice(0.5)).wait()
        talking.duplex.muted = True  # the stream is moved to the speaker's monitor, which is then silent
        sound_card.unload("mic")
        assert talking.event() == ("lost", "microphone")
        sound_card.load("mic")
        assert talking.event() == ("back", "microphone")
        talking.wait(2)


def test_a_microphone_that_somebody_mutes_is_opened_anew_once(
    sound_card: SoundCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duplex_module, "DEAD_SECONDS", 0.5)  # more than a busy machine interrupts a voice
    with talk() as talking:
        opened: list[bool] = []
        mic = talking.duplex._endpoints[0]
        monkeypatch.setattr(mic, "open", lambda ended, opens=mic.open: (opened.append(True), opens(ended))[1])
        for times in (1, 2):
            sound_card.speak(voice(0.5)).wait()
            talking.wait(15)  # 1.2 s
            assert len(opened) == times
        assert talking.events.empty()


def test_samples_that_the_system_lost_are_counted_also_across_streams(sound_card: SoundCard) -> None:
    flags = portaudio().CallbackFlags
    with talk() as talking:
        talking.wait(1)
        microphone = talking.duplex._endpoints[0]
        before = microphone.xruns
        assert microphone.stream
        for status in (flags(), flags(2), flags(2)):  # the second and third: input overflow
            microphone.stream._callback(np.zeros((480, 1), np.float32), 480, None, status)
        talking.duplex._watchdog.reopen(microphone)
        talking.wait(8)
        assert talking.duplex.status().xruns >= before + 2


def test_a_speaker_that_is_unplugged_leaves_the_frames_going(sound_card: SoundCard) -> None:
    """The server moves the stream to another sink; nothing of it can be seen."""
    with talk() as talking:
        talking.wait(2)
        sound_card.unload("spk")
        talking.wait(5)


def test_a_microphone_that_gives_only_zeros_is_a_matter_of_permission_said_once(
    sound_card: SoundCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duplex_module, "PERMISSION_SECONDS", 0.5)
    with talk() as talking:
        assert talking.event() == ("permission", "microphone")
        talking.wait(15)
        assert talking.events.empty()


def test_quiet_noise_is_no_matter_of_permission(sound_card: SoundCard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplex_module, "PERMISSION_SECONDS", PATIENCE)
    speech = sound_card.speak(voice(60.0, level=1e-4))  # -80 dBFS: three steps of 16 bits
    with talk() as talking:
        assert any(talking.wait(1).any() for _ in range(500)), "who speaks has begun"
        monkeypatch.setattr(duplex_module, "PERMISSION_SECONDS", 0.5)
        assert talking.wait(15).any()
        assert talking.events.empty()
        speech.kill()


def test_permission_is_explained_with_the_program_that_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.setenv("TERM_PROGRAM", "Apple_Terminal")
    assert "allow Terminal to use it in System Settings > Privacy & Security > Microphone" in permission_message()
    monkeypatch.setenv("TERM_PROGRAM", "iTerm.app")
    assert "allow iTerm to" in permission_message()


@pytest.mark.parametrize(("gone", "name"), [("mic", "microphone virtmic"), ("spk", "speaker virtspk")])
def test_a_device_that_cannot_be_opened_is_one_line_and_leaves_nothing_open(
    sound_card: SoundCard, gone: str, name: str
) -> None:
    sound_card.unload(gone)
    with pytest.raises(AudioDeviceError, match=f"the {name} cannot be opened: the system refused"):
        Duplex("virtmic", "virtspk")
    assert not [thread.name for thread in threading.enumerate() if thread.name == "moshi-microphone"]
    assert sound_card.streams() == []


@pytest.mark.parametrize(("microphone", "speaker"), [("clockless", "virtspk"), ("virtmic", "clockless")])
def test_a_device_without_a_clock_is_named_in_one_line(
    sound_card: SoundCard, microphone: str, speaker: str
) -> None:
    """ALSA's null device; all other tests here are of devices that have one."""
    name = "microphone" if microphone == "clockless" else "speaker"
    sound_card.add_clockless()
    look_again()
    with closing(Duplex(microphone, speaker)) as duplex:
        patience = threading.Timer(PATIENCE, duplex.close)
        patience.start()
        with pytest.raises(AudioDeviceError, match=f"{name} clockless has no clock: .*; choose another") as error:
            list(duplex)
        assert "\n" not in str(error.value)
        duplex._watchdog._thread.join(PATIENCE)
        assert not duplex._watchdog._thread.is_alive(), "it calls back no more"
        patience.cancel()


def test_an_error_of_who_is_told_reaches_who_asks_for_frames(sound_card: SoundCard) -> None:
    def nobody_reads(event: watchdog.DeviceEvent) -> None:
        raise BrokenPipeError(event.kind)

    with closing(Duplex("virtmic", "virtspk", on_event=nobody_reads)) as duplex:
        frames = iter(duplex)
        next(frames)
        sound_card.suspend("mic")
        with pytest.raises(BrokenPipeError, match="lost"):
            list(frames)
