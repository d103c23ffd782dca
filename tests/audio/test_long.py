"""Recordings of hours are read piece by piece, and sound as if they had been read at once."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from moshi_mlx.audio import files
from moshi_mlx.audio.file_stream import FileSource, speech_end
from moshi_mlx.audio.files import Audio, open_audio, read_audio
from moshi_mlx.audio.long import LongRecording
from moshi_mlx.errors import AudioFileError
from moshi_mlx.frames import FRAME_SAMPLES, SAMPLE_RATE
from moshi_mlx.tasks.transcribe import RecordingSource, SttTiming

Open = Callable[[Path], Audio]


@pytest.fixture
def open_long(monkeypatch: pytest.MonkeyPatch) -> Open:
    """`open_audio`, for which a second is long and a block short."""
    monkeypatch.setattr(files, "LONG", 1.0)
    monkeypatch.setattr(files, "_BLOCK", 5000)

    def opened(path: Path) -> Audio:
        audio = open_audio(path)
        assert isinstance(audio.pcm, LongRecording)
        return audio

    return opened


def noise(samples: int, channels: int) -> np.ndarray:
    return 0.1 * np.random.default_rng(0).standard_normal((samples, channels)).astype(np.float32)


def silent_second(pcm: np.ndarray) -> np.ndarray:
    pcm[:, 1] = 0
    return pcm


def cancelling(pcm: np.ndarray) -> np.ndarray:
    half = len(pcm) // 2  # the second channel is the quieter one first, and the louder one then
    pcm[:half, 1], pcm[half:, 1] = -0.9 * pcm[:half, 0], -1.05 * pcm[half:, 0]
    return pcm


CASES: dict[str, tuple[np.ndarray, int]] = {
    "mono": (noise(50_000, 1), 24_000),
    "stereo": (noise(50_000, 2), 24_000),
    "one silent channel": (silent_second(noise(50_000, 2)), 24_000),
    "channels that cancel": (cancelling(noise(50_000, 2)), 24_000),
    "six channels": (noise(50_000, 6), 24_000),
    "44.1 kHz": (noise(100_000, 1), 44_100),
    "8 kHz in stereo": (noise(20_000, 2), 8_000),
}


@pytest.mark.parametrize(("pcm", "rate"), CASES.values(), ids=CASES)
def test_it_sounds_as_if_it_had_been_read_at_once(
    pcm: np.ndarray, rate: int, open_long: Open, tmp_path: Path
) -> None:
    path = tmp_path / "long.wav"
    soundfile.write(path, pcm, rate, subtype="FLOAT")
    whole, long = read_audio(path), open_long(path)
    assert (long.seconds, long.notes, long.describe()) == (whole.seconds, whole.notes, whole.describe())
    pieces = [long.pcm[start : start + FRAME_SAMPLES] for start in range(0, len(whole.pcm), FRAME_SAMPLES)]
    assert np.array_equal(np.concatenate(pieces), whole.pcm)


def test_a_short_recording_is_an_array(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "short.wav", noise(50_000, 1), SAMPLE_RATE)
    assert isinstance(open_audio(tmp_path / "short.wav").pcm, np.ndarray)


def test_recordings_one_after_the_other_are_all_read(open_long: Open, tmp_path: Path) -> None:
    for name, rate in (("one.ogg", 24_000), ("two.ogg", 16_000)):
        soundfile.write(tmp_path / name, noise(40_000, 1), rate, format="OGG", subtype="VORBIS")
    path = tmp_path / "both.ogg"
    path.write_bytes((tmp_path / "one.ogg").read_bytes() + (tmp_path / "two.ogg").read_bytes())
    whole, long = read_audio(path), open_long(path)
    assert len(long.pcm) == len(whole.pcm) == 100_000
    assert np.array_equal(long.pcm[:], whole.pcm)
    assert long.notes == whole.notes


def counting(begun: list[int]) -> Iterator[np.ndarray]:
    begun.append(1)
    for start in range(0, 70_000, 70):
        yield np.arange(start, start + 70, dtype=np.float32)


def test_any_slices_are_those_of_an_array() -> None:
    begun: list[int] = []
    long, array = LongRecording(lambda: counting(begun), 1000, "it"), np.arange(1000, dtype=np.float32)
    forwards = [slice(0, 10), slice(0, 10), slice(5, 80), slice(80, 80), slice(300, 500), slice(990, 2000)]
    assert all(np.array_equal(long[where], array[where]) for where in forwards)
    assert len(begun) == 1  # what is asked for in order is decoded once
    for where in (slice(3, 4), slice(None), slice(-5, None), slice(9, 3), slice(2000, 3000)):
        assert np.array_equal(long[where], array[where]), where


def test_what_is_given_may_be_changed() -> None:
    long = LongRecording(lambda: counting([]), 1000, "it")
    long[0:5][:] = 9
    assert long[0:5].tolist() == [0, 1, 2, 3, 4]


def test_a_recording_that_becomes_shorter_is_told(open_long: Open, tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    soundfile.write(path, noise(50_000, 1), SAMPLE_RATE)
    audio = open_long(path)
    soundfile.write(path, noise(30_000, 1), SAMPLE_RATE)
    with pytest.raises(AudioFileError, match=r"long\.wav ended while it was read; is something changing it\?"):
        _ = audio.pcm[40_000:41_000]
    path.unlink()
    with pytest.raises(AudioFileError, match=r"cannot read .*long\.wav: No such file"):
        _ = audio.pcm[0:10]


def test_several_may_hear_it_at_once(open_long: Open, tmp_path: Path) -> None:
    path = tmp_path / "long.flac"
    soundfile.write(path, noise(50_000, 1), SAMPLE_RATE)
    whole, source = read_audio(path), FileSource(open_long(path).pcm, lead=0.5)
    once = list(FileSource(whole.pcm, lead=0.5))
    together = list(zip(source, source.heard(), strict=False))
    assert all(np.array_equal(one, frame) for (one, _), frame in zip(together, once, strict=False))
    assert all(np.array_equal(other, frame) for (_, other), frame in zip(together, once[1:], strict=False))
    assert len(together) == len(once) - 1


def test_each_who_hears_it_reads_it_once() -> None:
    begun: list[int] = []
    pcm: Any = LongRecording(lambda: counting(begun), 9 * FRAME_SAMPLES, "it")
    source = FileSource(pcm, 0, 0)
    assert sum(1 for _ in zip(source, source.heard(), strict=False)) == 9
    assert len(begun) == 2


@pytest.mark.parametrize("prefix", [0.0, 0.5, 0.52])
def test_a_model_that_transcribes_gets_it_between_its_silences(
    prefix: float, open_long: Open, tmp_path: Path
) -> None:
    path = tmp_path / "long.wav"
    soundfile.write(path, noise(50_001, 1), SAMPLE_RATE)
    timing = SttTiming(delay=0.5, prefix=prefix)
    whole = RecordingSource(read_audio(path).pcm, timing)
    long = RecordingSource(open_long(path).pcm, timing)
    frames = np.concatenate(list(whole))
    assert len(frames) == whole.frames * FRAME_SAMPLES
    at = FRAME_SAMPLES + round(prefix * SAMPLE_RATE)
    assert np.array_equal(frames[at : at + 50_001], read_audio(path).pcm)
    assert not frames[:at].any()
    assert not frames[at + 50_001 :].any()
    assert np.array_equal(frames, np.concatenate(list(long)))


def write_silence(path: Path, hours: float, **how: Any) -> None:
    """Write digital silence, block by block."""
    block = np.zeros(SAMPLE_RATE * 60, np.int16)
    with soundfile.SoundFile(path, "w", SAMPLE_RATE, 1, **how) as file:
        for _ in range(round(hours * 60)):
            file.write(block)


def test_the_memory_that_it_takes_does_not_grow_with_its_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "LONG", 20.0)

    def peak(minutes: int) -> int:
        path = tmp_path / f"{minutes}.flac"
        write_silence(path, minutes / 60)
        tracemalloc.start()
        pcm = open_audio(path).pcm
        assert speech_end(pcm) == 0
        frames = sum(1 for _ in FileSource(pcm, 0, 0))
        assert frames == minutes * 750 + 1
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    few, many = peak(1), peak(3)
    assert many < few + 1e6  # two minutes of samples would be 11.5 MB
    assert many < 8e6
