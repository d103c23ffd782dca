"""`moshi-mlx demo` from the user's side."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile

from tests.cli.conftest import Done


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
    assert soundfile.info(folder / "answer.wav").samplerate == 24_000
    assert "Paris." in (folder / "timeline.svg").read_text()
    assert "reply delays" in done.err
    assert "frames/s" in done.err


def test_a_place_that_cannot_be_made_is_one_line(moshi_cli: Callable[..., Done], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = moshi_cli("demo", tmp_path / "file" / "demo")
    assert done.code == 1
    assert re.fullmatch(r"error: cannot make .*: Not a directory\n", done.err)
