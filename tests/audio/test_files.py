"""Reading recordings: every format and rate, and every way a file can be wrong."""

import io
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from moshi_mlx.audio.files import read_audio
from moshi_mlx.errors import AudioFileError

FORMATS = {  # name -> (format, subtype, how far a lossy codec may be from the original)
    "wav": ("WAV", "PCM_16", 1e-4),
    "float.wav": ("WAV", "FLOAT", 1e-6),
    "8bit.wav": ("WAV", "PCM_U8", 1e-2),
    "flac": ("FLAC", "PCM_24", 1e-6),
    "ogg": ("OGG", "VORBIS", 0.05),
    "opus": ("OGG", "OPUS", 0.05),
    "mp3": ("MP3", "MPEG_LAYER_III", 0.05),
}


def tone(rate: int, seconds: float = 0.4, frequency: float = 440.0) -> np.ndarray:
    """A sine that fades in and out, (samples,) float32."""
    time = np.arange(round(rate * seconds)) / rate
    return (0.4 * np.sin(2 * np.pi * frequency * time) * np.sin(np.pi * time / seconds)).astype(np.float32)


def wav_bytes(samples: int = 1000, rate: int = 24_000, promised: int | None = None) -> bytes:
    """A hand-made 16-bit WAV; `promised`: bytes of samples that its header claims."""
    data = bytes(2 * samples)
    promised = len(data) if promised is None else promised
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16)
    riff = struct.pack("<4sI4s", b"RIFF", min(promised + 36, 0xFFFF_FFFF), b"WAVE")
    return riff + form + struct.pack("<4sI", b"data", promised) + data


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_sound(tmp_path: Path, name: str) -> None:
    kind, subtype, tolerance = FORMATS[name]
    path = tmp_path / f"tone.{name}"
    soundfile.write(path, tone(24_000), 24_000, format=kind, subtype=subtype)
    audio = read_audio(path)
    assert audio.pcm.dtype == np.float32
    assert audio.pcm.shape == (9_600,)
    assert np.abs(audio.pcm - tone(24_000))[:-500].max() < tolerance  # Opus ends some samples early


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 44_100, 48_000, 96_000])
def test_any_rate_becomes_24_khz_in_place(tmp_path: Path, rate: int) -> None:
    soundfile.write(tmp_path / "tone.wav", tone(rate), rate, subtype="FLOAT")
    audio = read_audio(tmp_path / "tone.wav")
    assert len(audio.pcm) == 9_600
    assert np.abs(audio.pcm - tone(24_000)).max() < 2e-3  # a shift of one sample would be 0.046
    assert f"resampled from {rate} Hz" in audio.describe()


@pytest.mark.parametrize(("samples", "expected"), [(1, 1), (2, 1), (12_345, 6_173), (48_000, 24_000)])
def test_resampled_length_is_exact(tmp_path: Path, samples: int, expected: int) -> None:
    soundfile.write(tmp_path / "short.wav", np.full(samples, 0.1), 48_000)
    assert len(read_audio(tmp_path / "short.wav").pcm) == expected


def test_channels_are_mixed_down_and_that_is_said(tmp_path: Path) -> None:
    left, right = tone(24_000), tone(24_000, frequency=660)
    soundfile.write(tmp_path / "stereo.wav", np.stack([left, right], axis=1), 24_000, subtype="FLOAT")
    audio = read_audio(tmp_path / "stereo.wav")
    np.testing.assert_allclose(audio.pcm, (left + right) / 2, atol=1e-6)
    assert audio.describe() == f"{tmp_path}/stereo.wav: 0.40 s (2 channels mixed down to mono)"


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(wav_bytes(240))))
    audio = read_audio("-")
    assert (len(audio.pcm), audio.name) == (240, "standard input")


def test_a_wav_of_unknown_length_is_read_to_its_end(tmp_path: Path) -> None:
    (tmp_path / "piped.wav").write_bytes(wav_bytes(500, promised=0xFFFF_FFFF))
    assert len(read_audio(tmp_path / "piped.wav").pcm) == 500


def encoded(kind: str, subtype: str) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.tile(tone(24_000), 4), 24_000, format=kind, subtype=subtype)
    return file.getvalue()


JUNK = np.random.RandomState(0).bytes(5000)
BAD = {
    "nothing.wav": (b"", "is empty (0 bytes)"),
    "junk.wav": (JUNK, "cannot be read as audio (Format not recognised); convert it"),
    "page.mp3": (b"<!doctype html><p>not found" * 40, "cannot be read as audio"),
    "header.wav": (wav_bytes(0), "holds no samples"),
    "half header.wav": (wav_bytes()[:30], "cannot be read as audio"),
    "cut.wav": (wav_bytes(promised=96_000), "is truncated (96000 bytes of samples promised, 2000 there)"),
    "zero rate.wav": (wav_bytes(rate=0), "says it has 0 samples a second: its header is damaged"),
    "slow.wav": (wav_bytes(rate=3), "says it has 3 samples a second: its header is damaged"),
    "cut.flac": (encoded("FLAC", "PCM_16")[:-5000], "cannot be read as audio (flac decoder lost sync)"),
    "cut.ogg": (encoded("OGG", "VORBIS")[:-4000], "is truncated (the last Ogg page is incomplete)"),
    "cut.opus": (encoded("OGG", "OPUS")[:-10], "is truncated (the last Ogg page is incomplete)"),
    "cut.mp3": (encoded("MP3", "MPEG_LAYER_III")[:2000], "is truncated (1.60 s promised, "),
    "audio.raw": (JUNK, "is headerless audio: convert it"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_one_clear_line(tmp_path: Path, name: str) -> None:
    content, expected = BAD[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AudioFileError) as caught:
        read_audio(tmp_path / name)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / name} {expected}")
    assert "\n" not in message


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_sample_that_is_no_number_is_named(tmp_path: Path, value: float) -> None:
    pcm = np.zeros((30_000, 2))
    pcm[12_000, 1] = pcm[20_000, 0] = value
    soundfile.write(tmp_path / "bad.wav", pcm, 24_000, subtype="FLOAT")
    with pytest.raises(AudioFileError, match=rf"no number: {value} at sample 12000 \(0\.500 s\)"):
        read_audio(tmp_path / "bad.wav")


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(AudioFileError, match=r"missing\.wav does not exist"):
        read_audio(tmp_path / "missing.wav")
    with pytest.raises(AudioFileError, match="is a folder, an audio file was expected"):
        read_audio(tmp_path)
