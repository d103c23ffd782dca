"""Files and folders that are whole or not there."""

import contextlib
import subprocess
import sys
from pathlib import Path

import pytest

from moshi_mlx.errors import CheckpointError
from moshi_mlx.weights.atomic import AtomicPath


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_has_its_name_only_when_the_block_has_ended(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")
    with AtomicPath(path) as part:
        part.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert names(tmp_path) == ["a.json"]


@pytest.mark.parametrize("is_folder", [False, True])
def test_a_block_that_raises_leaves_nothing_and_replaces_nothing(tmp_path: Path, is_folder: bool) -> None:
    path = tmp_path / "made"
    path.write_text("old")
    with contextlib.suppress(KeyError), AtomicPath(path) as part:
        if is_folder:
            part.mkdir()
        (part / "a" if is_folder else part).touch()
        raise KeyError
    assert path.read_text() == "old"
    assert names(tmp_path) == ["made"]


@pytest.mark.parametrize("before", [[], ["b"]])
def test_a_folder_takes_the_place_of_another(tmp_path: Path, before: list[str]) -> None:
    path = tmp_path / "made"
    path.mkdir()
    for name in before:
        (path / name).touch()
    with AtomicPath(path) as part:
        part.mkdir()
        (part / "a").touch()
        assert names(path) == before
    assert names(path) == ["a"]
    assert names(tmp_path) == ["made"]


def test_a_file_does_not_take_the_place_of_a_folder(tmp_path: Path) -> None:
    path = tmp_path / "made"
    path.mkdir()
    (path / "letter").touch()
    with pytest.raises(OSError), AtomicPath(path) as part:
        part.touch()
    assert names(path) == ["letter"]
    assert names(tmp_path) == ["made"]


def test_what_the_system_refuses_is_one_line_of_ours(tmp_path: Path) -> None:
    message = r"^cannot write .*a\.json: No such file"
    with pytest.raises(CheckpointError, match=message), AtomicPath(tmp_path / "a.json", CheckpointError) as part:
        part.read_text()
    with pytest.raises(CheckpointError, match=message), AtomicPath(tmp_path / "a.json", CheckpointError):
        pass  # nothing was written
    assert names(tmp_path) == []


def test_what_a_process_had_taken_away_when_it_was_killed_comes_back(tmp_path: Path) -> None:
    """Killed between the two renamings that put a folder in another's place."""
    path = tmp_path / "made"
    path.mkdir()
    (path / "a").touch()
    killed = """
import os, signal, sys
from pathlib import Path
from moshi_mlx.weights.atomic import AtomicPath

Path.rename = lambda path, to, rename=Path.rename: (rename(path, to), os.kill(os.getpid(), signal.SIGKILL))
with AtomicPath(Path(sys.argv[1])) as part:
    part.mkdir()
    (part / "b").touch()
"""
    done = subprocess.run([sys.executable, "-c", killed, str(path)], check=False)
    assert done.returncode == -9
    assert not path.exists()
    AtomicPath(path)
    assert names(tmp_path) == ["made"]
    assert names(path) == ["a"]
