"""`moshi-mlx history`: what was kept is listed, printed, and told to programs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conversation.test_history import keep


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A place for data with one conversation."""
    keep(tmp_path / "moshi-mlx" / "conversations" / "2026-03-01 nano", "2026-03-01T21:15:00+01:00")
    return tmp_path


def history(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "XDG_DATA_HOME": str(home)}
    command = [sys.executable, "-m", "moshi_mlx", "history", *words]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_it_lists_prints_and_tells_programs(home: Path) -> None:
    listed = history(home)
    assert " ".join(listed.stdout.split()) == "1 2026-03-01 21:15 0:08 nano The capital of France is Paris."
    shown = history(home, "last")
    assert "   0:02  Moshi  The capital of France is Paris." in shown.stdout
    assert str(home / "moshi-mlx" / "conversations" / "2026-03-01 nano") in shown.stderr
    told = json.loads(history(home, "1", "--json").stdout)
    assert told["seconds"] == 8.0
    assert told["turns"][1]["text"] == "The capital of France is Paris."


def test_an_empty_history_says_how_to_fill_it(tmp_path: Path) -> None:
    assert "`moshi-mlx chat --keep` keeps one" in history(tmp_path).stdout


def test_what_is_not_there_is_one_line(home: Path) -> None:
    done = history(home, "7")
    assert done.returncode == 1
    assert done.stderr == "error: there is no conversation '7' (1 to 1, or a folder)\n"
