"""`moshi-mlx demo` from the user's side."""

import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from moshi_mlx.cli.demo import called
from moshi_mlx.conversation.transcript import Transcript
from tests.cli.conftest import Done

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_demo_prints_both_sides_and_leaves_sound_and_picture(
    moshi_cli: Callable[..., Done], tmp_path: Path
) -> None:
    folder = tmp_path / "new" / "demo"
    done = moshi_cli("demo", folder)
    assert done.code == 0
    spoken = [re.fullmatch(r" *([\d.]+) s  (you|moshi) +(.+)", line) for line in done.out.splitlines()]
    assert all(spoken)
    times = [float(line[1]) for line in spoken if line]
    assert times == sorted(times)
    assert [line[2] for line in spoken if line] == ["you", "moshi"] * 4
    assert "What is the capital of France?" in done.out
    assert "The capital of France is Paris." in done.out
    answer, rate = soundfile.read(folder / "answer.wav")
    assert rate == 24_000
    both, _ = soundfile.read(folder / "conversation.wav")
    assert np.array_equal(both[:, 1], answer)
    assert np.abs(both[: 7 * 1920, 0]).max() == 0 < np.abs(both[7 * 1920 :, 0]).max(), (
        "the lead, then the questions"
    )
    assert "Paris." in (folder / "timeline.svg").read_text()
    assert "reply delays" in done.err
    assert "as nano-stt wrote it down: what is the capital of France what can you do" in done.err
    assert re.search(r"in the male voice: The capital would be Paris\.$", done.err, re.MULTILINE)
    assert "frames/s" in done.err
    assert done.err.splitlines()[-2:] == [
        f"  moshi-mlx run {folder / 'question.wav'} --model nano",
        "  moshi-mlx serve --model nano",
    ]


@pytest.mark.slow
def test_the_readmes_first_commands_run_as_they_stand(
    moshi_cli: Callable[..., Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine that has nothing but the clone: what `make demo` leaves is all they need."""
    monkeypatch.chdir(tmp_path)
    assert moshi_cli("demo", "demo", "--quiet").code == 0
    readme = (ROOT / "README.md").read_text()
    typed = re.findall(r"^\.venv/bin/moshi-mlx (run .*)$", readme, re.MULTILINE)
    nano, moshi = (line.split() for line in typed)
    done = moshi_cli(*nano, "--seed", 0)
    assert (done.code, done.out) == (0, "The capital of France is Paris.\n")
    assert moshi == [*nano[:-1], "moshiko-q4"], "then Moshi, whose download is left out here"


@pytest.mark.slow
def test_what_is_to_be_typed_next_can_be_typed(
    moshi_cli: Callable[..., Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Transcript, "delay_after", lambda transcript, seconds: None)  # it has not answered
    done = moshi_cli("demo", tmp_path / "my demo")
    assert f"  moshi-mlx run '{tmp_path / 'my demo' / 'question.wav'}' --model nano" in done.err.splitlines()
    assert "reply delays" not in done.err


def test_how_it_was_called_is_what_is_typed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / ".venv" / "bin" / "moshi-mlx"
    program.parent.mkdir(parents=True)
    program.touch(0o755)
    monkeypatch.chdir(tmp_path)
    for argument, path, expected in (
        (program, "", ".venv/bin/moshi-mlx"),
        (".venv/bin/moshi-mlx", "", ".venv/bin/moshi-mlx"),
        (program, program.parent, "moshi-mlx"),
        ("/elsewhere/moshi-mlx", "", "/elsewhere/moshi-mlx"),
        ("/package/__main__.py", "", f"{Path(sys.executable).name} -m moshi_mlx"),
    ):
        monkeypatch.setattr(sys, "argv", [str(argument)])
        monkeypatch.setenv("PATH", str(path))
        assert called() == expected


def test_ctrl_c_leaves_nothing_half(
    moshi_cli: Callable[..., Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("moshi_mlx.runtime.engine.converse", interrupted)
    monkeypatch.setattr("moshi_mlx.runtime.moshi.Moshi.warm_up", lambda self: None)
    done = moshi_cli("demo", tmp_path / "demo")
    assert (done.code, done.out) == (130, "")
    assert (
        done.err == f"interrupted: the conversation was not finished, and {tmp_path / 'demo'} has nothing of it\n"
    )
    assert list((tmp_path / "demo").iterdir()) == []


def test_a_place_that_cannot_be_made_is_one_line(moshi_cli: Callable[..., Done], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = moshi_cli("demo", tmp_path / "file" / "demo")
    assert done.code == 1
    assert re.fullmatch(r"error: cannot make .*: Not a directory\n", done.err)
