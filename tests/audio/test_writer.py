"""Writing audio files: in the format that their suffix names, whole or not there."""

import io
import os
import stat
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
import soundfile

from moshi_mlx.audio.files import read_audio
from moshi_mlx.audio.writer import AudioWriter
from moshi_mlx.errors import AudioFileError

PCM = np.linspace(-1, 1, 4800, dtype=np.float32)


def test_what_is_written_reads_back(tmp_path: Path) -> None:
    with AudioWriter(tmp_path / "out.wav") as wav:
        wav.write(PCM[:1000])
        wav.write(PCM[1000:])
    samples, rate = soundfile.read(tmp_path / "out.wav", dtype="float32")
    info = soundfile.info(tmp_path / "out.wav")
    assert (rate, info.subtype, info.channels, wav.seconds) == (24_000, "PCM_16", 1, 0.2)
    assert np.abs(samples - PCM).max() <= 1 / 32768
    with wave.open(str(tmp_path / "out.wav")) as strict:  # believes the header
        assert strict.getnframes() == len(PCM)


def test_too_loud_is_clipped_and_counted(tmp_path: Path) -> None:
    with AudioWriter(tmp_path / "out.wav") as wav:
        wav.write(np.array([0.5, 1.5], dtype=np.float32))
        wav.write(np.array([-3.0, -1.0, 1.0, np.nan], dtype=np.float32))
    samples, _ = soundfile.read(tmp_path / "out.wav", dtype="int16")
    assert samples.tolist() == [16384, 32767, -32768, -32768, 32767, 0]
    assert wav.clipped == 2


def test_the_name_appears_only_at_the_end(tmp_path: Path) -> None:
    wav = AudioWriter(tmp_path / "out.wav")
    wav.write(PCM)
    assert not (tmp_path / "out.wav").exists()
    wav.finish()
    assert [path.name for path in tmp_path.iterdir()] == ["out.wav"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "out.wav").write_text("the old one")
    with pytest.raises(RuntimeError), AudioWriter(tmp_path / "out.wav") as wav:  # noqa: PT012
        wav.write(PCM)
        raise RuntimeError
    assert (tmp_path / "out.wav").read_text() == "the old one"
    assert len(list(tmp_path.iterdir())) == 1


VOICE = (0.5 * np.sin(np.arange(70_001) * (0.05 + np.arange(70_001) * 1e-6))).astype(np.float32)  # a gliding tone
WRITTEN = {  # suffix: what libsndfile finds in the file, and how much of the voice at least, dB above what differs
    "flac": ("FLAC", "PCM_16", 80),
    "FLAC": ("FLAC", "PCM_16", 80),
    "mp3": ("MP3", "MPEG_LAYER_III", 20),
    "ogg": ("OGG", "VORBIS", 15),
    "oga": ("OGG", "VORBIS", 15),
    "opus": ("OGG", "OPUS", 15),
    "aiff": ("AIFF", "PCM_16", 80),
    "aif": ("AIFF", "PCM_16", 80),
    "au": ("AU", "PCM_16", 80),
    "caf": ("CAF", "PCM_16", 80),
    "w64": ("W64", "PCM_16", 80),
    "wav": ("WAV", "PCM_16", 80),
    "x3k9Qa": ("WAV", "PCM_16", 80),  # as `mktemp` makes them
}


@pytest.mark.parametrize("suffix", WRITTEN)
def test_a_file_is_what_its_suffix_names(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out.{suffix}"
    container, encoding, clear = WRITTEN[suffix]
    with AudioWriter(path) as file:
        for start in range(0, len(VOICE), 1920):
            file.write(VOICE[start : start + 1920])
    assert [found.name for found in tmp_path.iterdir()] == [path.name]
    info = soundfile.info(path)
    assert (info.format, info.subtype, info.samplerate, info.channels) == (container, encoding, 24_000, 1)
    heard = read_audio(path)
    assert not heard.notes
    assert len(heard.pcm) == len(VOICE)
    noise = np.square(heard.pcm - VOICE)[2400:-2400].mean()
    assert 10 * np.log10(np.square(VOICE).mean() / noise) > clear


@pytest.mark.parametrize("suffix", ["flac", "ogg", "opus", "mp3"])
def test_too_loud_and_no_number_are_as_in_a_wav(tmp_path: Path, suffix: str) -> None:
    pcm = np.full(24_000, 3.0, np.float32)
    pcm[1000:2000] = np.nan
    with AudioWriter(tmp_path / f"out.{suffix}") as file:
        file.write(pcm)
    found, _ = soundfile.read(tmp_path / f"out.{suffix}")
    assert np.isfinite(found).all()
    assert np.abs(found).max() < 1.6, "a coder may overshoot, but not to three"
    assert file.clipped == 23_000


@pytest.mark.parametrize("name", ["a.m4a", "a.MP4", "a.webm", "a.aac", "a.raw"])
def test_a_format_that_is_not_written_is_refused_with_the_way_on(tmp_path: Path, name: str) -> None:
    with pytest.raises(AudioFileError, match=rf"not written here .*`ffmpeg -i a\.wav {name}`"):
        AudioWriter(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_libsndfile_without_a_format_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soundfile, "available_subtypes", lambda container: {"PCM_16": "16 bits"})
    with pytest.raises(AudioFileError, match=r"libsndfile \S+ cannot write mp3: name a \.wav"):
        AudioWriter(tmp_path / "a.mp3")
    AudioWriter(tmp_path / "a.flac").discard()


def test_a_pipe_gets_no_format_that_must_be_rewound(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.flac")
    with pytest.raises(AudioFileError, match="a pipe or device gets WAV only"):
        AudioWriter(tmp_path / "pipe.flac")


@pytest.mark.parametrize("suffix", ["flac", "mp3", "ogg", "opus", "aiff"])
def test_what_was_begun_is_discarded_in_any_format(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(RuntimeError), AudioWriter(tmp_path / f"out.{suffix}") as file:  # noqa: PT012
        file.write(VOICE)
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


FILL = """
import resource, signal, sys
import numpy as np
from moshi_mlx.audio.writer import AudioWriter
from moshi_mlx.errors import AudioFileError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))
rng = np.random.default_rng(0)
try:
    with AudioWriter(sys.argv[1]) as wav:
        for _ in range(1000):
            wav.write(rng.uniform(-1, 1, 1920).astype(np.float32))
except AudioFileError as error:
    print(error)
"""


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "ogg", "opus"])
def test_no_room_leaves_nothing_behind(tmp_path: Path, suffix: str) -> None:
    target = tmp_path / f"out.{suffix}"
    command = [sys.executable, "-c", FILL, str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"cannot write {target}: File too large\n"
    assert done.stderr == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_device_is_an_error() -> None:
    with pytest.raises(AudioFileError, match="cannot write /dev/full: No space left on device"):
        AudioWriter("/dev/full")
    assert Path("/dev/full").is_char_device()


@pytest.mark.parametrize("suffix", ["wav", "opus"])
def test_a_full_disk_at_the_last_moment_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, os.strerror(28))

    wav = AudioWriter(tmp_path / f"out.{suffix}")
    wav.write(PCM)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(AudioFileError, match="No space left on device"):
        wav.finish()
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_found_at_once(tmp_path: Path) -> None:
    with pytest.raises(AudioFileError, match=r"the folder .*missing does not exist"):
        AudioWriter(tmp_path / "missing" / "out.wav")
    with pytest.raises(AudioFileError, match="it is a folder"):
        AudioWriter(tmp_path)
    if os.geteuid() != 0:  # to root nothing is protected
        tmp_path.chmod(0o500)
        with pytest.raises(AudioFileError, match="Permission denied"):
            AudioWriter(tmp_path / "out.wav")
        tmp_path.chmod(0o700)


def test_a_write_protected_answer_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out.wav").touch()
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everything
    with pytest.raises(AudioFileError, match="it is write-protected"):
        AudioWriter(tmp_path / "out.wav")


def test_a_device_is_written_to_and_not_replaced() -> None:
    with AudioWriter(os.devnull) as wav:
        wav.write(PCM)
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


def test_a_link_keeps_pointing_at_the_answer(tmp_path: Path) -> None:
    (tmp_path / "link.wav").symlink_to(tmp_path / "real.wav")
    with AudioWriter(tmp_path / "link.wav") as wav:
        wav.write(PCM)
    assert (tmp_path / "link.wav").is_symlink()
    assert soundfile.info(tmp_path / "real.wav").frames == len(PCM)


def test_standard_output_can_be_read_as_it_comes(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    with AudioWriter("-") as wav:
        wav.write(PCM)
    out = capfdbinary.readouterr().out
    samples, _ = soundfile.read(io.BytesIO(out), dtype="float32")
    assert np.abs(samples - PCM).max() <= 1 / 32768


def test_the_umask_decides_who_may_read(tmp_path: Path) -> None:
    old = os.umask(0o022)
    try:
        AudioWriter(tmp_path / "out.wav").finish()
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "out.wav").stat().st_mode) == 0o644


def test_whoever_reads_a_stream_has_each_frame_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    with os.fdopen(writer, "w") as stdout, os.fdopen(reader, "rb", buffering=0) as stdin:
        monkeypatch.setattr("sys.stdout", stdout)
        with AudioWriter("-") as file:
            assert len(stdin.read(100_000) or b"") == 44
            for _ in range(2):
                file.write(np.zeros(1920, np.float32))
                assert len(stdin.read(100_000) or b"") == 2 * 1920
        monkeypatch.undo()
