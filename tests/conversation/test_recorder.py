"""A conversation on disk is whole, aligned, and readable at every moment."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import soundfile

from moshi_mlx.conversation.recorder import FLUSH_FRAMES, GrowingWav, Recorder, check_folder
from moshi_mlx.conversation.turns import Turn
from moshi_mlx.errors import AudioFileError
from moshi_mlx.runtime.reply import Reply


def frame(level: float) -> np.ndarray:
    return np.full(1920, level, np.float32)


def talk(recorder: Recorder, frames: int, start: int = 0) -> None:
    """User frame n is n / 1000 loud, Moshi's answer to it -n / 1000; nothing comes with the first two."""
    for number in range(start, start + frames):
        audio = frame(-number / 1000) if number > 1 else None
        said = f" word{number}" if number % 3 == 0 else ""
        recorder.add(frame(number / 1000), Reply(audio, said, (number - start) * 0.08))


def test_what_was_said_together_lies_together(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "talk", {"seed": 7}, lambda: {"drops": 3})
    talk(recorder, 20)
    recorder.close()
    user, rate = soundfile.read(tmp_path / "talk" / "user.wav")
    moshi, _ = soundfile.read(tmp_path / "talk" / "moshi.wav")
    mix, _ = soundfile.read(tmp_path / "talk" / "mix.wav")
    assert rate == 24_000
    assert len(user) == len(moshi) == len(mix) == 20 * 1920
    np.testing.assert_allclose(user[::1920], np.arange(20) / 1000, atol=1 / 32768)
    np.testing.assert_allclose(moshi[::1920], -np.arange(20) / 1000 * (np.arange(20) > 1), atol=1 / 32768)
    np.testing.assert_array_equal(mix, np.stack([user, moshi], 1))
    words = [json.loads(line) for line in (tmp_path / "talk" / "transcript.jsonl").read_text().splitlines()]
    assert words[1] == {"t": 0.24, "text": " word3"}
    assert len(words) == 7
    about = json.loads((tmp_path / "talk" / "session.json").read_text())
    assert abs(datetime.fromisoformat(about.pop("started")).timestamp() - time.time()) < 600
    assert about == {"seed": 7, "drops": 3, "frames": 20}


def test_words_have_the_time_of_the_files_also_after_a_reset(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "talk", {})
    talk(recorder, 8)
    talk(recorder, 4)  # their replies begin at 0 again
    recorder.close()
    words = [json.loads(line) for line in (tmp_path / "talk" / "transcript.jsonl").read_text().splitlines()]
    assert [word["t"] for word in words] == [0.0, 0.24, 0.48, 0.64, 0.88]


def test_a_killed_program_leaves_readable_files(tmp_path: Path) -> None:
    program = textwrap.dedent(f"""
        import time
        from pathlib import Path
        from moshi_mlx.conversation.recorder import Recorder
        from tests.conversation.test_recorder import talk
        recorder = Recorder(Path({str(tmp_path / "talk")!r}), {{"seed": 1}}, lambda: {{"drops": 2}})
        talk(recorder, {3 * FLUSH_FRAMES})
        print("ready", flush=True)
        time.sleep(60)
    """)
    root = Path(__file__).parents[2]
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=root)
    assert child.stdout
    assert child.stdout.readline() == "ready\n"
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()
    for name, channels in (("user", 1), ("moshi", 1), ("mix", 2)):
        info = soundfile.info(tmp_path / "talk" / f"{name}.wav")
        assert (info.frames, info.channels) == (3 * FLUSH_FRAMES * 1920, channels)
    about = json.loads((tmp_path / "talk" / "session.json").read_text())
    del about["started"]
    assert about == {"seed": 1, "drops": 2, "frames": 3 * FLUSH_FRAMES}
    assert len((tmp_path / "talk" / "transcript.jsonl").read_text().splitlines()) == FLUSH_FRAMES


def test_a_folder_is_never_written_over(tmp_path: Path) -> None:
    Recorder(tmp_path / "talk", {}).close()
    with pytest.raises(AudioFileError, match=r"talk already holds a conversation; choose another folder"):
        Recorder(tmp_path / "talk", {})


def test_a_place_that_cannot_be_written_is_one_line_and_known_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AudioFileError, match=r"cannot write to .*file/talk: .*file is no folder$"):
        check_folder(tmp_path / "file" / "talk")
    check_folder(tmp_path / "new" / "talk")
    assert not (tmp_path / "new").exists(), "looking makes nothing"
    monkeypatch.setattr("os.access", lambda path, how: path != tmp_path)
    with pytest.raises(AudioFileError, match=r"cannot write to .*talk: .* may not be written by you$"):
        check_folder(tmp_path / "new" / "talk")


def test_a_place_that_the_system_refuses_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(AudioFileError, match=r"cannot write to .*: File name too long$"):
        Recorder(tmp_path / ("n" * 300), {})


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(tmp_path / "talk", {})

    def full(self: GrowingWav) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(GrowingWav, "flush", full)
    with pytest.raises(AudioFileError, match=r"cannot write to .*talk: No space left on device"):
        talk(recorder, FLUSH_FRAMES)
    recorder.turn(Turn("user", 0.0, 1.0))  # a conversation ends with the turns at hand
    talk(recorder, 1)
    recorder.close()  # as whoever opened it does in the end: that is no second error
