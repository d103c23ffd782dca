"""Recordings to words with a small random model: stepping, reading ahead and in company give the same."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from moshi_mlx.checkpoint.random_checkpoint import TINY_STT, write_random_checkpoint
from moshi_mlx.errors import ConfigError, SessionError
from moshi_mlx.frames import FRAME_SAMPLES, split_frames
from moshi_mlx.runtime.engine import converse
from moshi_mlx.runtime.moshi import Moshi, load
from moshi_mlx.runtime.session import Session
from moshi_mlx.sampling_config import GREEDY
from moshi_mlx.tasks.speculation import AHEAD
from moshi_mlx.tasks.transcribe import SttTiming, Transcriber, WordSink, worthwhile_ahead
from moshi_mlx.tasks.words import Pause, Word
from tests.tasks.test_captioner import texts

TIMING = SttTiming(delay=0.5, prefix=0.24)


@pytest.fixture(scope="module")
def stt(stt_folder: Path) -> Moshi:
    return load(stt_folder, codec="mlx")


def noise(frames: float, seed: int = 0) -> np.ndarray:
    samples = round(frames * FRAME_SAMPLES)
    return (0.1 * np.random.RandomState(seed).standard_normal(samples)).astype(np.float32)


def test_a_recording_is_heard_between_the_silences_that_the_model_wants(stt: Moshi) -> None:
    pcm = noise(10.5)
    recording = Transcriber(stt, TIMING).source(pcm)
    frames = list(recording)
    assert len(frames) == recording.frames
    assert not frames[0].any(), "a session does not hear it"
    heard = np.concatenate(frames[1:])
    assert not heard[:5760].any()
    np.testing.assert_array_equal(heard[5760 : 5760 + len(pcm)], pcm)
    assert not heard[5760 + len(pcm) :].any()
    assert len(heard) >= 5760 + len(pcm) + 1.5 * 24_000


def test_words_are_those_of_stepping_through_a_conversation(stt: Moshi) -> None:
    pcm, transcriber = noise(50), Transcriber(stt, TIMING)
    sink = WordSink(transcriber.words(len(pcm) / 24_000))
    with stt.session(0, GREEDY) as session:
        converse(session, transcriber.source(pcm), sink)
    expected = sink.finish()
    assert len(expected) > 5, "the model should have something to say"
    for reader in transcriber, Transcriber(stt, TIMING, ahead=1):
        done: list[int] = []
        events = list(reader.events(reader.source(pcm), done.append))
        assert texts(events) == texts(expected)
        for one, other in zip(events, expected, strict=True):
            if isinstance(one, Pause) and isinstance(other, Pause):
                assert one.probability == pytest.approx(other.probability, abs=1e-5)
        assert sum(done) == reader.source(pcm).frames


def test_a_recording_can_be_left_before_its_end(stt: Moshi) -> None:
    transcriber = Transcriber(stt, TIMING)
    recording, done = transcriber.source(noise(60)), [0]

    def advance(frames: int) -> None:
        done[0] += frames
        if done[0] == 20:
            recording.close()

    words = list(transcriber.events(recording, advance))
    assert done[0] < 45
    assert words == list(transcriber.events(transcriber.source(noise(60))))[: len(words) - 1] + words[-1:]


def test_a_batch_of_no_recordings_is_refused(stt: Moshi) -> None:
    with pytest.raises(SessionError, match="a batch of 0 recordings"):
        Transcriber(stt, TIMING).transcribe_together([noise(3)], size=0)


def test_recordings_in_one_batch_are_transcribed_as_alone(stt: Moshi) -> None:
    recordings = [noise(frames, seed) for seed, frames in enumerate([12, 30, 0.5, 21, 3])]
    transcriber = Transcriber(stt, TIMING)
    alone = [transcriber.transcribe(pcm) for pcm in recordings]
    assert len({one.text for one in alone}) > 2
    together = transcriber.transcribe_together(recordings, size=3)
    assert [one.words for one in together] == [one.words for one in alone]
    assert [[pause.time for pause in one.pauses] for one in together] == [
        [pause.time for pause in one.pauses] for one in alone
    ]
    assert [one.seconds for one in together] == [len(pcm) / 24_000 for pcm in recordings]


def test_nothing_stays_open_where_a_batch_is_broken_off(stt: Moshi, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[Session] = []
    monkeypatch.setattr(Session, "close", lambda session: closed.append(session))

    def advance(frames: int) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        Transcriber(stt, TIMING).transcribe_together([noise(3), noise(3)], advance=advance)
    assert len(closed) == 2


@pytest.mark.parametrize(
    ("pcm", "message"),
    [
        (np.full(4800, 3000, np.int16), r"got \(4800,\) int16; divide whole numbers by their full scale"),
        (np.zeros((4800, 2), np.float32), r"got \(4800, 2\) float32$"),
        (np.array([0.0, np.nan]), "sample 1 of the audio is nan"),
    ],
)
def test_what_is_no_audio_is_refused(stt: Moshi, pcm: np.ndarray, message: str) -> None:
    with pytest.raises(SessionError, match=message):
        Transcriber(stt, TIMING).transcribe(pcm)
    with pytest.raises(SessionError, match=message):
        next(split_frames(pcm))


def test_a_model_that_speaks_is_refused(tiny_moshi: Moshi) -> None:
    with pytest.raises(ConfigError, match="this model speaks, it is no speech-to-text model"):
        Transcriber(tiny_moshi, SttTiming())


def test_timing_comes_from_the_config() -> None:
    settings = {"stt_config": {"audio_delay_seconds": 2.5, "audio_silence_prefix_seconds": 1.0}, "dim": 64}
    assert SttTiming.from_settings(settings) == SttTiming(2.5, 1.0)
    assert SttTiming.from_settings({"dim": 64, "stt_config": None}) == SttTiming()
    with pytest.raises(ConfigError, match=r"stt_config.audio_delay_seconds' is 'long'"):
        SttTiming.from_settings({"stt_config": {"audio_delay_seconds": "long"}})


@pytest.mark.parametrize(
    ("cost", "ahead"),
    [({1: 1.0, 4: 1.0, 16: 1.3}, 16), ({1: 1.0, 4: 1.4, 16: 6.0}, 4), ({1: 1.0, 4: 4.0, 16: 15.0}, 1)],
)
def test_a_pass_is_as_long_as_it_pays(stt: Moshi, cost: dict[int, float], ahead: int) -> None:
    assert worthwhile_ahead(stt.lm, cost.__getitem__) == ahead


def test_how_long_a_pass_pays_is_tried(stt: Moshi, tmp_path: Path) -> None:
    quantized = load(write_random_checkpoint(tmp_path / "q4", TINY_STT, layout="mlx", scheme="q4"), codec="mlx")
    for moshi in stt, quantized:
        assert worthwhile_ahead(moshi.lm) in (1, 4, AHEAD)
    pcm = noise(12)
    assert Transcriber(quantized, TIMING).transcribe(pcm).words == (
        Transcriber(quantized, TIMING, ahead=5).transcribe(pcm).words
    )


def test_live_the_silence_before_and_the_frame_that_is_never_heard_take_no_time(stt: Moshi) -> None:
    pcm, frames = noise(40, seed=3), 40
    live = Transcriber(stt, SttTiming(delay=0.5, prefix=0.2))
    assert live.settling == 3, "whole frames"
    sink = WordSink(live.live_words())
    with stt.session(0, GREEDY) as session:
        live.settle(session, sink)
        converse(session, [*pcm.reshape(frames, FRAME_SAMPLES)], sink)
    recorded = Transcriber(stt, SttTiming(delay=0.5, prefix=0.24))
    expected = [round_off(one) for one in recorded.events(recorded.source(pcm))]
    found = [round_off(one) for one in sink.finish()][:-1]  # the last one may go on behind
    assert len(found) > 5
    assert found == expected[: len(found)]


def round_off(event: Word | Pause) -> Word | Pause:
    """Without what a pass of several rows changes in the last digits of a probability."""
    return event if isinstance(event, Word) else replace(event, probability=round(event.probability, 4))
