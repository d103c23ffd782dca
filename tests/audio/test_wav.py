"""Writing WAV files: whole or not there."""

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

from moshi_mlx.audio.wav import WavWriter
from moshi_mlx.errors import AudioFileError

PCM = np.linspace(-1, 1, 4800, dtype=np.float32)


def test_what_is_written_reads_back(tmp_path: Path) -> None:
    with WavWriter(tmp_path / "out.wav") as wav:
        wav.write(PCM[:1000])
        wav.write(PCM[1000:])
    samples, rate = soundfile.read(tmp_path / "out.wav", dtype="float32")
    info = soundfile.info(tmp_path / "out.wav")
    assert (rate, info.subtype, info.channels, wav.seconds) == (24_000, "PCM_16", 1, 0.2)
    assert np.abs(samples - PCM).max() <= 1 / 32768
    with wave.open(str(tmp_path / "out.wav")) as strict:  # believes the header
        assert strict.getnframes() == len(PCM)


def test_too_loud_is_clipped_and_counted(tmp_path: Path) -> None:
    with WavWriter(tmp_path / "out.wav") as wav:
        wav.write(np.array([0.5, 1.5], dtype=np.float32))
        wav.write(np.array([-3.0, -1.0, 1.0, np.nan], dtype=np.float32))
    samples, _ = soundfile.read(tmp_path / "out.wav", dtype="int16")
    assert samples.tolist() == [16384, 32767, -32768, -32768, 32767, 0]
    assert wav.clipped == 2


def test_the_name_appears_only_at_the_end(tmp_path: Path) -> None:
    wav = WavWriter(tmp_path / "out.wav")
    wav.write(PCM)
    assert not (tmp_path / "out.wav").exists()
    wav.finish()
    assert [path.name for path in tmp_path.iterdir()] == ["out.wav"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "out.wav").write_text("the old one")
    with pytest.raises(RuntimeError), WavWriter(tmp_path / "out.wav") as wav:  # noqa: PT012
        wav.write(PCM)
        raise RuntimeError
    assert (tmp_path / "out.wav").read_text() == "the old one"
    assert len(list(tmp_path.iterdir())) == 1


FILL = """
import resource, signal, sys
import numpy as np
from moshi_mlx.audio.wav import WavWriter
from moshi_mlx.errors import AudioFileError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
try:
    with WavWriter(sys.argv[1]) as wav:
        for _ in range(100):
            wav.write(np.zeros(1920, dtype=np.float32))
except AudioFileError as error:
    print(error)
"""


def test_no_room_leaves_nothing_behind(tmp_path: Path) -> None:
    target = tmp_path / "out.wav"
    command = [sys.executable, "-c", FILL, str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"cannot write {target}: File too large\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_device_is_an_error() -> None:
    with pytest.raises(AudioFileError, match="cannot write /dev/full: No space left on device"):
        WavWriter("/dev/full")
    assert Path("/dev/full").is_char_device()


def test_a_full_disk_at_the_last_moment_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, os.strerror(28))

    wav = WavWriter(tmp_path / "out.wav")
    wav.write(PCM)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(AudioFileError, match="No space left on device"):
        wav.finish()
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_found_at_once(tmp_path: Path) -> None:
    with pytest.raises(AudioFileError, match=r"the folder .*missing does not exist"):
        WavWriter(tmp_path / "missing" / "out.wav")
    with pytest.raises(AudioFileError, match="it is a folder"):
        WavWriter(tmp_path)
    if os.geteuid() != 0:  # to root nothing is protected
        tmp_path.chmod(0o500)
        with pytest.raises(AudioFileError, match="Permission denied"):
            WavWriter(tmp_path / "out.wav")
        tmp_path.chmod(0o700)


def test_a_write_protected_answer_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out.wav").touch()
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everything
    with pytest.raises(AudioFileError, match="it is write-protected"):
        WavWriter(tmp_path / "out.wav")


def test_a_device_is_written_to_and_not_replaced() -> None:
    with WavWriter(os.devnull) as wav:
        wav.write(PCM)
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


def test_a_link_keeps_pointing_at_the_answer(tmp_path: Path) -> None:
    (tmp_path / "link.wav").symlink_to(tmp_path / "real.wav")
    with WavWriter(tmp_path / "link.wav") as wav:
        wav.write(PCM)
    assert (tmp_path / "link.wav").is_symlink()
    assert soundfile.info(tmp_path / "real.wav").frames == len(PCM)


def test_standard_output_can_be_read_as_it_comes(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    with WavWriter("-") as wav:
        wav.write(PCM)
    out = capfdbinary.readouterr().out
    samples, _ = soundfile.read(io.BytesIO(out), dtype="float32")
    assert np.abs(samples - PCM).max() <= 1 / 32768


def test_the_umask_decides_who_may_read(tmp_path: Path) -> None:
    old = os.umask(0o022)
    try:
        WavWriter(tmp_path / "out.wav").finish()
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "out.wav").stat().st_mode) == 0o644
