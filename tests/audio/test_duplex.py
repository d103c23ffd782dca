"""Microphone and speaker on a software sound card: sound goes through, and every fault is noticed and mended."""

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from moshi_mlx.audio import duplex as duplex_module
from moshi_mlx.audio import port, streams, watchdog
from moshi_mlx.audio.devices import portaudio
from moshi_mlx.audio.duplex import Duplex, permission_message
from moshi_mlx.audio.frames import FRAME_SAMPLES, SAMPLE_RATE
from moshi_mlx.errors import AudioDeviceError
from moshi_mlx.session import Reply
from tests.sound_card import SoundCard

PATIENCE = 10.0  # seconds; much more than anything here takes, for a machine that is busy
SOME = 0.3  # of the sound came through as it was: a busy machine interrupts it, but nothing comes by chance


class Recorder:
    """An echo canceller that cancels nothing and keeps what it gets."""

    def __init__(self) -> None:
        self.near: list[np.ndarray] = []
        self.far: list[np.ndarray] = []
        self.resets = 0

    def reset(self) -> None:
        self.resets += 1

    def process(self, near: np.ndarray, far: np.ndarray) -> np.ndarray:
        self.near.append(near)
        self.far.append(far)
        return near


class Talk:
    """Someone who repeats every frame, and what happens meanwhile."""

    def __init__(self) -> None:
        self.echo = Recorder()
        self.events: queue.Queue[watchdog.DeviceEvent] = queue.Queue()
        self.frames: queue.Queue[np.ndarray] = queue.Queue()
        self.duplex = Duplex("virtmic", "virtspk", self.echo, self.events.put)
        self.thread = threading.Thread(target=self._repeat, daemon=True)
        self.thread.start()

    def _repeat(self) -> None:
        for frame in self.duplex:
            self.duplex.write(Reply(frame, "", 0.0))
            self.frames.put(frame)

    def event(self) -> tuple[str, str]:
        event = self.events.get(timeout=PATIENCE)
        assert "\n" not in event.message
        return event.kind, "microphone" if "the microphone" in event.message else "speaker"

    def wait(self, frames: int) -> np.ndarray:
        """Wait for so many more frames from now on, (samples,)."""
        while not self.frames.empty():
            self.frames.get()
        return np.concatenate([self.frames.get(timeout=PATIENCE) for _ in range(frames)])


@contextmanager
def talk() -> Iterator[Talk]:
    """A talk that ends with nothing left of it, whatever happened to the devices."""
    talking = Talk()
    try:
        yield talking
    finally:
        talking.duplex.close()
        talking.thread.join(PATIENCE)
    assert not talking.thread.is_alive()
    talking.duplex._thread.join(PATIENCE)
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("moshi-")]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts to reopen a device follow each other sooner than in life."""
    monkeypatch.setattr(port, "RETRY", 0.2)
    monkeypatch.setattr(watchdog, "RETRY", 0.2)
    monkeypatch.setattr(watchdog, "RETRY_MOST", 0.2)


def voice(seconds: float, level: float = 0.1) -> np.ndarray:
    """Noise, (samples,) float32 at 24 kHz; up to 2 kHz, for the card may shift it by half a sample."""
    spectrum = np.fft.rfft(np.random.default_rng(0).standard_normal(round(seconds * SAMPLE_RATE)))
    spectrum[np.fft.rfftfreq(round(seconds * SAMPLE_RATE), 1 / SAMPLE_RATE) > 2_000] = 0
    pcm = np.fft.irfft(spectrum)
    return (level * pcm / pcm.std()).astype(np.float32)


def found(part: np.ndarray, whole: np.ndarray) -> tuple[float, int]:
    """The best correlation of `part` within `whole`, and at which sample."""
    size = 1 << (len(part) + len(whole)).bit_length()
    match = np.fft.irfft(np.fft.rfft(whole, size) * np.conj(np.fft.rfft(part, size)), size)
    at = int(np.argmax(match[: len(whole) - len(part)]))
    return float(np.corrcoef(part, whole[at : at + len(part)])[0, 1]), at


def clear_share(said: np.ndarray, heard: np.ndarray) -> float:
    """The share of 100 ms pieces that are heard as they were said."""
    pieces = np.split(said, range(2400, len(said) - 2399, 2400))
    return float(np.mean([found(piece, heard)[0] > 0.95 for piece in pieces]))


def test_what_is_said_is_heard_again_soon(sound_card: SoundCard) -> None:
    said = voice(2.0)
    with talk() as talking:
        with sound_card.listen() as heard, sound_card.listen("micfeed") as fed:
            talking.wait(3)
            sound_card.speak(said).wait()
            talking.wait(10)
        status = talking.duplex.status()
    assert clear_share(said, np.concatenate(talking.echo.near)) > SOME
    assert clear_share(said, heard[0]) > SOME
    delays = [
        found(piece, heard[0])[1] - found(piece, fed[0])[1]
        for piece in np.split(said, 20)
        if found(piece, heard[0])[0] > 0.95 < found(piece, fed[0])[0]
    ]
    assert 0 < np.median(delays) < 1.0 * SAMPLE_RATE
    assert status.dropped == 0
    assert 0.1 < status.lag <= 0.4
    assert status.lost == []


def test_the_canceller_sees_an_echo_after_what_was_played_and_always_at_the_same_distance(
    sound_card: SoundCard,
) -> None:
    said = voice(2.4)
    recorder = Recorder()
    duplex = Duplex("loopmic", "virtspk", recorder)  # a microphone right at the speaker
    for frame, _ in zip(np.split(said, 30), duplex, strict=False):
        duplex.write(Reply(frame, "", 0.0))
    duplex.close()
    near, far = np.concatenate(recorder.near), np.concatenate(recorder.far)
    delays = [
        found(piece, near)[1] - found(piece, far)[1]
        for piece in np.split(said, 24)
        if found(piece, near)[0] > 0.95 < found(piece, far)[0]
    ]
    assert len(delays) >= 4
    assert 0 < np.median(delays) < 0.3 * SAMPLE_RATE  # what a canceller's filter can span
    assert (
        np.mean(np.abs(np.array(delays) - np.median(delays)) <= 2) > 0.5
    )  # the card may stumble, not the alignment


def test_what_was_heard_before_the_first_frame_is_asked_for_is_no_backlog(sound_card: SoundCard) -> None:
    filled = threading.Event()

    class Counting(Recorder):
        def process(self, near: np.ndarray, far: np.ndarray) -> np.ndarray:
            if len(self.near) == 4:  # those before are in the queue
                filled.set()
            return super().process(near, far)

    counting = Counting()
    duplex = Duplex("virtmic", "virtspk", counting)
    assert filled.wait(PATIENCE)
    old = [id(frame) for frame in counting.near]
    first = next(iter(duplex))
    waiting = len(duplex._queue)
    duplex.close()
    assert id(first) not in old[:4]
    assert waiting == 0
    assert duplex.status().dropped == 0


def test_nothing_is_played_until_there_is_something_to_play_and_then_without_a_gap(sound_card: SoundCard) -> None:
    duplex = Duplex("virtmic", "virtspk")
    written: list[np.ndarray] = []
    duplex._speaker.write = lambda pcm: written.append(pcm)
    voice = np.full(FRAME_SAMPLES, 0.1, np.float32)
    for audio in (None, None, voice, None, voice):
        duplex.write(Reply(audio, "", 0.0))
    duplex.close()
    assert [bool(pcm.any()) for pcm in written] == [True, False, True]


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
    look_again = watchdog.look_again

    def look() -> None:
        look_again()
        looked.set()

    monkeypatch.setattr(watchdog, "look_again", look)
    with talk() as talking:
        talking.wait(2)
        monkeypatch.setattr(watchdog, "_wall_ahead", lambda: 1e12)
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
    monkeypatch.setattr(duplex_module, "DEAD_SECONDS", 0.2)
    with talk() as talking:
        opened: list[bool] = []
        mic = talking.duplex._ports[0]
        monkeypatch.setattr(mic, "open", lambda ended, opens=mic.open: (opened.append(True), opens(ended))[1])
        for times in (1, 2):
            sound_card.speak(voice(0.5)).wait()
            talking.wait(20)
            assert len(opened) == times
        assert talking.events.empty()


def test_samples_that_the_system_lost_are_counted_also_across_streams(sound_card: SoundCard) -> None:
    flags = portaudio().CallbackFlags
    with talk() as talking:
        talking.wait(1)
        port = talking.duplex._ports[0]
        before = port.stumbles
        assert port.stream
        for status in (flags(), flags(2), flags(2)):  # the second and third: input overflow
            port.stream._callback(np.zeros((480, 1), np.float32), 480, None, status)
        talking.duplex._watchdog.reopen(port)
        talking.wait(8)
        assert talking.duplex.status().stumbles >= before + 2


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
    monkeypatch.setattr(duplex_module, "PERMISSION_SECONDS", 0.5)
    speech = sound_card.speak(voice(20.0, level=1e-4))  # -80 dBFS: three steps of 16 bits
    with talk() as talking:
        assert talking.wait(15).any()
        assert talking.events.empty()
        speech.kill()


def test_permission_is_explained_with_the_program_that_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.setenv("TERM_PROGRAM", "Apple_Terminal")
    assert "allow Terminal to use it in System Settings > Privacy & Security > Microphone" in permission_message()
    monkeypatch.setenv("TERM_PROGRAM", "iTerm.app")
    assert "allow iTerm to" in permission_message()


@pytest.mark.parametrize("sound_card", [16_000, 44_100, 48_000], indirect=True)
def test_a_device_that_opens_only_at_its_own_rate_is_resampled(
    sound_card: SoundCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    native_rate_only(monkeypatch, sound_card.rate)
    with talk() as talking:
        assert all(f"{sound_card.rate} Hz" in line for line in talking.duplex.describe())
        with sound_card.listen() as heard:
            sound_card.speak(voice(1.5)).wait()
            talking.wait(10)
    said = voice(1.5)
    assert clear_share(said, np.concatenate(talking.echo.near)) > SOME
    assert clear_share(said, np.concatenate(talking.echo.far)) > SOME
    assert clear_share(said, heard[0]) > SOME


@pytest.mark.parametrize("seconds", [0.0, 0.01, 0.1])
def test_any_block_size_will_do(sound_card: SoundCard, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    monkeypatch.setattr(streams, "BLOCK_SECONDS", seconds)  # 0: whatever the device likes
    with talk() as talking:
        sound_card.speak(voice(1.0)).wait()
        talking.wait(6)
    assert clear_share(voice(1.0), np.concatenate(talking.echo.near)) > SOME
    assert clear_share(voice(1.0), np.concatenate(talking.echo.far)) > SOME


def test_a_muted_microphone_gives_silent_frames(sound_card: SoundCard) -> None:
    speech = sound_card.speak(voice(20.0))
    with talk() as talking:
        talking.wait(10)
        talking.duplex.muted = True
        talking.wait(2)
        muted = talking.wait(3)
        speech.kill()
    assert len(muted) == 3 * FRAME_SAMPLES
    assert not muted.any()


@pytest.mark.parametrize(("gone", "name"), [("mic", "microphone virtmic"), ("spk", "speaker virtspk")])
def test_a_device_that_cannot_be_opened_is_one_line_and_leaves_nothing_open(
    sound_card: SoundCard, gone: str, name: str
) -> None:
    sound_card.unload(gone)
    with pytest.raises(AudioDeviceError, match=f"the {name} cannot be opened: the system refused"):
        Duplex("virtmic", "virtspk")
    assert not [thread.name for thread in threading.enumerate() if thread.name == "moshi-microphone"]
    assert sound_card.streams() == []


def test_an_error_of_the_echo_canceller_reaches_who_asks_for_frames(sound_card: SoundCard) -> None:
    class Broken:
        def reset(self) -> None: ...

        def process(self, near: np.ndarray, far: np.ndarray) -> np.ndarray:
            raise ArithmeticError("no echo")

    duplex = Duplex("virtmic", "virtspk", Broken())
    with pytest.raises(ArithmeticError, match="no echo"):
        list(duplex)
    duplex.close()


def test_a_model_that_cannot_keep_up_is_said_once(sound_card: SoundCard) -> None:
    events: queue.Queue[watchdog.DeviceEvent] = queue.Queue()
    duplex = Duplex("virtmic", "virtspk", on_event=events.put)
    for number, frame in enumerate(duplex):
        threading.Event().wait(0.15)
        duplex.write(Reply(frame, "", 0.0))
        if number == 16:
            duplex.close()
    status = duplex.status()
    assert status.dropped >= 3
    assert status.pace > 0.08
    slow = [event for event in events.queue if event.kind == "slow"]
    assert len(slow) == 1
    assert "cannot keep up" in slow[0].message


def native_rate_only(monkeypatch: pytest.MonkeyPatch, rate: int) -> None:
    """Let PortAudio refuse every other rate, as it does for hardware without a mixer in between."""
    sound = portaudio()

    def picky(stream: Any) -> Any:
        def opened(samplerate: int, **settings: Any) -> Any:
            if samplerate != rate:
                raise sound.PortAudioError("Error opening Stream: Invalid sample rate", -9997)
            return stream(samplerate=samplerate, **settings)

        return opened

    monkeypatch.setattr(sound, "InputStream", picky(sound.InputStream))
    monkeypatch.setattr(sound, "OutputStream", picky(sound.OutputStream))
