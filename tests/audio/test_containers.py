"""Recordings whose containers say too little or too much: all is heard, or one line says what is not.

One line of a table is one file; the next kind of file is one more line.
"""

from __future__ import annotations

import io
import os
import re
import struct
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from moshi_mlx.audio.containers import signed
from moshi_mlx.audio.files import read_audio
from moshi_mlx.errors import AudioFileError

RATE = 16_000


def voice(seconds: float = 2.0, seed: int = 0) -> np.ndarray:
    """A tone with syllables, (samples,) float32."""
    time = np.arange(int(seconds * RATE)) / RATE
    tone = sum(np.sin(2 * np.pi * 130 * k * time) / k for k in range(1, 8))
    return (0.2 * tone * (0.6 + 0.4 * np.sin(2 * np.pi * 3 * time + seed))).astype(np.float32)


def encoded(form: str, subtype: str | None = None, pcm: np.ndarray | None = None, **how) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, voice() if pcm is None else pcm, RATE, format=form, subtype=subtype, **how)
    return out.getvalue()


def chunk(name: bytes, body: bytes, size: int | None = None) -> bytes:
    return name + struct.pack("<I", len(body) if size is None else size) + body + b"\0" * (len(body) % 2)


def wav(*chunks: bytes, form: bytes = b"RIFF") -> bytes:
    layout = chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, RATE, 2 * RATE, 2, 16))
    body = b"WAVE" + layout + b"".join(chunks)
    return form + struct.pack("<I", len(body)) + body


SAMPLES = (voice() * 32767).astype("<i2").tobytes()


def pages(data: bytes) -> list[bytes]:
    found, at = [], 0
    while at < len(data):
        end = at + 27 + data[at + 26] + sum(data[at + 27 : at + 27 + data[at + 26]])
        found.append(data[at:end])
        at = end
    return found


def without_end(data: bytes) -> bytes:
    return b"".join(signed(page[:5] + bytes([page[5] & ~4]) + page[6:]) for page in pages(data))


def with_serial(data: bytes, serial: int) -> bytes:
    return b"".join(signed(page[:14] + struct.pack("<I", serial) + page[18:]) for page in pages(data))


def bare_mp3() -> bytes:
    """An MP3 without the Info frame that tells its length."""
    data = encoded("MP3", bitrate_mode="CONSTANT", compression_level=0.7)
    return data[data.index(b"\xff\xf3", data.index(b"Info")) :]


def id3(size: int) -> bytes:
    return b"ID3\3\0\0" + bytes(size >> shift & 127 for shift in (21, 14, 7, 0)) + b"\x11" * size


def flac_of_unknown_length(data: bytes) -> bytes:
    return data[:21] + bytes([data[21] & 0xF0]) + bytes(4) + data[26:]


WHOLE: dict[str, tuple[Callable[[], bytes], float]] = {  # file, seconds
    "mp3 without Info frame": (bare_mp3, 2.0),
    "mp3 behind cover art": (lambda: id3(300_000) + bare_mp3(), 2.0),
    "mp3 before an ID3v1 tag": (lambda: bare_mp3() + b"TAG" + bytes(125), 2.0),
    "mp3 before an APE tag": (lambda: bare_mp3() + b"APETAGEX" + bytes(500), 2.0),
    "two mp3 in one": (lambda: encoded("MP3") + encoded("MP3", pcm=voice(3)), 5.0),
    "opus with junk behind": (lambda: encoded("OGG", "OPUS") + b"junk", 2.0),
    "opus without end mark": (lambda: without_end(encoded("OGG", "OPUS")), 2.0),
    "vorbis without end mark": (lambda: without_end(encoded("OGG", "VORBIS")), 2.0),
    "chained opus": (lambda: encoded("OGG", "OPUS") + with_serial(encoded("OGG", "OPUS", voice(3)), 9), 5.0),
    "chained vorbis": (lambda: encoded("OGG", "VORBIS") + with_serial(encoded("OGG", "VORBIS", voice(3)), 9), 5.0),
    "flac of unknown length": (lambda: flac_of_unknown_length(encoded("FLAC", "PCM_16")), 2.0),
    "wav of length 0": (lambda: wav(chunk(b"data", SAMPLES, 0)), 2.0),
    "wav of length ffffffff": (lambda: wav(chunk(b"data", SAMPLES, 0xFFFF_FFFF)), 2.0),
    "bwf of length 0": (lambda: wav(chunk(b"bext", bytes(602)), chunk(b"data", SAMPLES, 0)), 2.0),
    "rf64": (lambda: encoded("RF64", "PCM_16"), 2.0),
    "w64": (lambda: encoded("W64", "PCM_16"), 2.0),
    "aiff": (lambda: encoded("AIFF", "PCM_16"), 2.0),
    "au": (lambda: encoded("AU", "PCM_16"), 2.0),
    "caf": (lambda: encoded("CAF", "PCM_16"), 2.0),
    "rifx": (lambda: encoded("WAV", "PCM_16", endian="BIG"), 2.0),
}


@pytest.mark.parametrize("name", WHOLE)
def test_all_of_it_is_heard(tmp_path: Path, name: str) -> None:
    make, seconds = WHOLE[name]
    path = tmp_path / "recording"
    path.write_bytes(make())
    audio = read_audio(path)
    assert audio.seconds == pytest.approx(seconds, abs=0.15)
    assert bool(audio.notes) == (seconds == 5.0), "a note for several recordings in one, for nothing else"
    last = audio.pcm[-len(audio.pcm) // 4 :]
    assert np.sqrt(np.square(last).mean()) > 0.03, "to its end"


CUT: dict[str, Callable[[], bytes]] = {
    "aiff": lambda: encoded("AIFF", "PCM_16"),
    "float aiff": lambda: encoded("AIFF", "FLOAT"),
    "w64": lambda: encoded("W64", "PCM_16"),
    "rf64": lambda: encoded("RF64", "PCM_16"),
    "au": lambda: encoded("AU", "PCM_16"),
    "rifx": lambda: encoded("WAV", "PCM_16", endian="BIG"),
    "wav": lambda: encoded("WAV", "PCM_16"),
    "mp3": lambda: encoded("MP3", bitrate_mode="CONSTANT", compression_level=0.7),
    "opus": lambda: encoded("OGG", "OPUS"),
    "vorbis": lambda: encoded("OGG", "VORBIS"),
}


@pytest.mark.parametrize("name", CUT)
def test_a_cut_file_is_refused(tmp_path: Path, name: str) -> None:
    data = CUT[name]()
    path = tmp_path / "recording"
    path.write_bytes(data[: len(data) * 6 // 10])
    with pytest.raises(AudioFileError, match="is truncated"):
        read_audio(path)


def test_an_empty_wav_stays_empty_whatever_follows(tmp_path: Path) -> None:
    path = tmp_path / "empty.wav"
    path.write_bytes(wav(chunk(b"data", b""), chunk(b"LIST", b"INFOINAM\4\0\0\0abc\0")))
    with pytest.raises(AudioFileError, match="holds no samples"):
        read_audio(path)


FOREIGN = {
    "m4a": bytes(4) + b"ftypM4A " + bytes(24),
    "mov": bytes(4) + b"ftypqt  " + bytes(24),
    "webm": b"\x1a\x45\xdf\xa3" + bytes(60),
    "aac": b"\xff\xf1\x50\x80\x1f\xfc" + bytes(100),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_is_not_read_is_named_with_the_way_out(tmp_path: Path, name: str) -> None:
    path = tmp_path / "named.wav"
    path.write_bytes(FOREIGN[name])
    with pytest.raises(AudioFileError, match=r"which is not read here: convert it, .*afconvert.*ffmpeg"):
        read_audio(path)


def test_where_macos_can_convert_it_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "made.wav").write_bytes(wav(chunk(b"data", SAMPLES)))
    program = tmp_path / "bin" / "afconvert"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\n[ "$1$2$3$4" = -fWAVE-dLEI16 ] && cp "{tmp_path}/made.wav" "$6"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    (tmp_path / "memo.m4a").write_bytes(FOREIGN["m4a"])
    assert read_audio(tmp_path / "memo.m4a").seconds == pytest.approx(2.0)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no named pipes in the file system")
def test_a_pipe_is_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    data = wav(chunk(b"data", SAMPLES))
    threading.Thread(target=lambda: (tmp_path / "pipe.wav").write_bytes(data), daemon=True).start()
    assert read_audio(tmp_path / "pipe.wav").seconds == pytest.approx(2.0)


def heard(tmp_path: Path, channels: list[np.ndarray]) -> tuple[float, str]:
    """Root mean square of what is heard of some channels, relative to one voice; and the notes."""
    path = tmp_path / "many.wav"
    soundfile.write(path, np.stack(channels, axis=1), RATE, subtype="FLOAT")
    audio = read_audio(path)
    return float(np.sqrt(np.square(audio.pcm).mean() / np.square(voice()).mean())), " ".join(audio.notes)


SILENCE = np.zeros_like(voice())
MIXES = {  # channels, how loud the voice is heard, what is said
    "one": ([voice()], 1.0, ""),
    "two alike": ([voice(), voice()], 1.0, ""),
    "two opposite": ([voice(), -voice()], 1.0, "cancel each other"),
    "nearly opposite": ([voice(), -0.95 * voice()], 1.0, "cancel each other"),
    "one of two": ([voice(), SILENCE], 1.0, ""),
    "one of three": ([SILENCE, voice(), SILENCE], 1.0, ""),
    "one of eight": ([voice(), *[SILENCE] * 7], 1 / 8, "7 of 8 channels .* 18 dB quieter"),
    "silence": ([SILENCE, SILENCE], 0.0, ""),
    "hot": ([5 * voice()], 5.0, ""),
    "int16 as float": ([32767 * voice()], 32767.0, "times full scale"),
}


@pytest.mark.parametrize("name", MIXES)
def test_channels_are_mixed_so_that_the_voice_is_heard(tmp_path: Path, name: str) -> None:
    channels, loudness, said = MIXES[name]
    level, notes = heard(tmp_path, channels)
    assert level == pytest.approx(loudness, rel=0.02)
    assert re.search(said, notes) if said else not notes
