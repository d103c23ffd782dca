"""Standard streams that are closed, full or left; no folder for temporary files; what a kill leaves behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile

from moshi_mlx.weights.atomic import LONGEST, AtomicPath

pytestmark = pytest.mark.slow


def shell(line: str, folder: Path, **environment: str) -> tuple[int, str, str]:
    """Run a line in which $M is the program; exit code, and what came on the streams that are left."""
    program = f"M={sys.executable!r}' -m moshi_mlx'; {line}"
    done = subprocess.run(
        ["bash", "-c", program], cwd=folder, capture_output=True, env={**os.environ, **environment}, timeout=120
    )
    return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode()


@pytest.fixture
def place(tiny_folder: Path, tmp_path: Path) -> Path:
    """A folder with a recording and a model."""
    import numpy as np

    noise = 0.1 * np.random.default_rng(0).standard_normal(9600)
    soundfile.write(tmp_path / "in.wav", noise.astype(np.float32), 24_000)
    (tmp_path / "tiny").symlink_to(tiny_folder)
    return tmp_path


RUN = "$M run in.wav {} --model tiny --lead 0 --tail 0 --seed 1 --codec mlx"
FULL, CLOSED = "No space left on device", "Bad file descriptor"
needs_full = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        pytest.param("$M --version > /dev/full", f"cannot write standard output: {FULL}", marks=needs_full),
        ("$M --version >&-", f"cannot write standard output: {CLOSED}"),
        ("$M run - out.wav --model tiny <&-", f"cannot read standard input: {CLOSED}"),
        (RUN.format("-") + " >&-", f"cannot write standard output: {CLOSED}"),
        pytest.param(RUN.format("-") + " > /dev/full", f"cannot write standard output: {FULL}", marks=needs_full),
    ],
)
def test_a_stream_that_cannot_be_used_is_one_line(line: str, said: str, place: Path) -> None:
    code, out, err = shell(line, place)
    assert (code, out, err.splitlines()[-1:]) == (1, "", [f"error: {said}"])
    assert err.count("\n") <= 2  # but for that line, the name of the recording
    assert not (place / "out.wav").exists()


def test_the_answer_is_whole_though_the_report_cannot_be_said(place: Path) -> None:
    code, _, err = shell(RUN.format("out.wav") + " >&-", place)
    assert (code, err.splitlines()[-1]) == (1, f"error: cannot write standard output: {CLOSED}")
    assert soundfile.info(place / "out.wav").frames > 0


def test_no_note_goes_into_the_audio(place: Path) -> None:
    code, *_ = shell(RUN.format("-") + " > told.wav", place)
    assert code == 0
    code, *_ = shell(RUN.format("-") + " > silent.wav 2>&-", place)
    assert code == 0
    assert (place / "silent.wav").read_bytes() == (place / "told.wav").read_bytes()
    assert (place / "told.wav").read_bytes().startswith(b"RIFF")


@needs_full
def test_what_cannot_be_said_on_standard_error_stops_nothing(place: Path) -> None:
    code, out, _ = shell(RUN.format("out.wav") + " 2> /dev/full", place)
    assert code == 0
    assert out.strip()
    assert soundfile.info(place / "out.wav").frames > 0


def test_a_reader_that_leaves_ends_the_program_quietly(place: Path) -> None:
    code, _, err = shell(RUN.format("-") + " --quiet | true; exit ${PIPESTATUS[0]}", place)
    assert (code, err) == (141, "")
    code, _, err = shell("(sleep 0.2; $M --help; exit $?) | true; exit ${PIPESTATUS[0]}", place)
    assert (code, err) == (141, "")


def test_a_folder_for_temporary_files_that_is_not_there_is_passed_over(place: Path) -> None:
    code, _, err = shell(RUN.format("out.wav"), place, TMPDIR=str(place / "nowhere"))
    assert code == 0, err
    assert soundfile.info(place / "out.wav").frames > 0


@pytest.mark.parametrize("length", [LONGEST, LONGEST + 1, 255])
def test_a_name_may_be_as_long_as_the_file_system_lets_it(length: int, tmp_path: Path) -> None:
    path = tmp_path / ("ä" * 20 + "a" * (length - 40))
    with AtomicPath(path) as part:
        part.write_text("new")
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("name", ["out.wav", "o" * 251 + ".wav"])
def test_what_a_kill_leaves_is_removed_by_the_next_run(name: str, tmp_path: Path) -> None:
    program = (
        "import os, signal, sys\nfrom moshi_mlx.audio.writer import AudioWriter\nimport numpy as np\n"
        "writer = AudioWriter(sys.argv[1])\nwriter.write(np.zeros(9))\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", program, name], cwd=tmp_path)
    assert killed.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert left.name.endswith(".part")
    other = left.with_name(left.name.replace(f".{left.name.split('.')[-2]}.", f".{os.getpid()}."))
    other.touch()  # of a program that runs
    path = tmp_path / name
    with AtomicPath(path) as part:
        assert part == other
        part.write_text("new")
    assert [each.name for each in tmp_path.iterdir()] == [name]
