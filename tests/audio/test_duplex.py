"""Microphone and speaker on a software sound card: sound goes through, at any rate and in any pieces."""

import queue
import threading
from typing import Any

import numpy as np
import pytest

from moshi_mlx.audio import streams, watchdog
from moshi_mlx.audio.duplex import Duplex
from moshi_mlx.audio.portaudio import portaudio
from moshi_mlx.audio.speaker import Speaker
from moshi_mlx.frames import FRAME_SAMPLES, SAMPLE_RATE
from moshi_mlx.runtime.reply import Reply
from tests.audio.talking import PATIENCE, SOME, Recorder, clear_share, found, quick, talk, voice
from tests.sound_card import SoundCard

__all__ = ["quick"]


def test_what_is_said_is_heard_again_soon(sound_card: SoundCard) -> None:
    said = voice(1.2)
    with talk() as talking:
        with sound_card.listen() as heard, sound_card.listen("micfeed") as fed:
            talking.wait(3)
            sound_card.speak(said).wait()
            talking.wait(8)
        status = talking.duplex.status()
    assert clear_share(said, np.concatenate(talking.echo.near)) > SOME
    assert clear_share(said, heard[0]) > SOME
    delays = [
        found(piece, heard[0])[1] - found(piece, fed[0])[1]
        for piece in np.split(said, 12)
        if found(piece, heard[0])[0] > 0.95 < found(piece, fed[0])[0]
    ]
    assert 0 < np.median(delays) < 1.0 * SAMPLE_RATE
    assert status.dropped <= 3, "none, but for a busy machine"
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
    )  # the card may lose samples, the alignment may not


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


@pytest.mark.parametrize("sound_card", [16_000, 44_100, 48_000], indirect=True)
def test_a_device_that_opens_only_at_its_own_rate_is_resampled(
    sound_card: SoundCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    native_rate_only(monkeypatch, sound_card.rate)
    with talk() as talking:
        assert all(f"{sound_card.rate} Hz" in line for line in talking.duplex.describe())
        with sound_card.listen() as heard:
            sound_card.speak(voice(1.0)).wait()
            talking.wait(8)
    said = voice(1.0)
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


def test_the_device_can_be_changed_while_people_talk(sound_card: SoundCard) -> None:
    with talk() as talking:
        talking.wait(2)
        before = talking.duplex.describe()
        talking.duplex.next_device("input")
        events = [talking.event()]
        while events[-1] == ("lost", "microphone"):  # not every device of the list can be opened
            events.append(talking.event())
        assert events[-1] == ("changed", "microphone")
        talking.wait(2)
        after = talking.duplex.describe()
    assert after[0] != before[0]
    assert after[1] == before[1]


def test_the_volume_changes_what_the_speaker_is_given() -> None:
    class Far:
        def prepare(self, rate: int) -> None: ...

        def fill(self, block: np.ndarray) -> None:
            self.block = block

    far = Far()
    speaker = Speaker(far)  # pyright: ignore[reportArgumentType]
    speaker.volume = 0.5
    block = np.zeros((FRAME_SAMPLES // 2, 2), np.float32)
    for _ in range(3):
        speaker.write(np.full(FRAME_SAMPLES, 0.8, np.float32))
        speaker.fill(block)
    np.testing.assert_allclose(block, 0.4, atol=1e-6)
    np.testing.assert_allclose(far.block, 0.4, atol=1e-6)  # the canceller hears it as loud as the room
