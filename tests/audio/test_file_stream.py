"""Recordings as sources, WAV files as sinks."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from moshi_mlx.audio.file_stream import FileSource, Tee, WavSink, speech_end
from moshi_mlx.frames import FRAME_SAMPLES
from moshi_mlx.runtime.reply import Reply

PCM = np.arange(1, 3000, dtype=np.float32) / 3000  # 1.56 frames


def test_the_recording_lies_between_its_silences_after_one_extra_frame() -> None:
    source = FileSource(PCM, lead=0.1, tail=0.24)
    frames = list(source)
    timeline = np.concatenate(frames)
    assert all(frame.shape == (FRAME_SAMPLES,) and frame.dtype == np.float32 for frame in frames)
    assert (len(frames), source.frames) == (1 + 2 + 2 + 3, 7)
    np.testing.assert_array_equal(timeline[3 * FRAME_SAMPLES :][: len(PCM)], PCM)
    assert np.count_nonzero(timeline) == len(PCM)


def test_no_silence_and_no_sound_are_fine() -> None:
    assert len(list(FileSource(PCM, lead=0, tail=0))) == 3
    assert len(list(FileSource(PCM[:0], lead=0, tail=0))) == 1


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf")])
def test_silence_that_means_nothing_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="seconds of silence"):
        FileSource(PCM, lead=seconds)


def test_closing_ends_the_frames() -> None:
    source = FileSource(PCM, lead=8, tail=8)
    frames = iter(source)
    next(frames)
    source.close()
    assert list(frames) == []


def test_the_sink_saves_the_audio_that_there_is(tmp_path: Path) -> None:
    loud = np.full(FRAME_SAMPLES, 0.5, dtype=np.float32)
    with WavSink(tmp_path / "out.wav") as sink:
        for audio in (None, loud, -loud):
            sink.write(Reply(audio, "", 0.0))
    samples, _ = soundfile.read(tmp_path / "out.wav")
    np.testing.assert_array_equal(samples, np.concatenate([loud, -loud]))


def test_a_failed_conversation_leaves_no_answer(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), WavSink(tmp_path / "out.wav"):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_tee_gives_every_reply_to_every_sink() -> None:
    class Memory:
        def __init__(self) -> None:
            self.replies: list[Reply] = []

        def write(self, reply: Reply) -> None:
            self.replies.append(reply)

    first, second, reply = Memory(), Memory(), Reply(None, "a", 0.0)
    Tee(first, second).write(reply)
    assert first.replies == second.replies == [reply]


def test_speech_ends_where_it_becomes_quiet() -> None:
    noise = np.random.RandomState(0).standard_normal(10 * FRAME_SAMPLES).astype(np.float32)
    noise[4 * FRAME_SAMPLES :] *= 0.003  # 50 dB below
    assert speech_end(noise) == pytest.approx(0.32)
    assert speech_end(np.zeros(5000, dtype=np.float32)) == 0.0
    assert speech_end(np.empty(0, dtype=np.float32)) == 0.0
