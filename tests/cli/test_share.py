"""`bench --share`: one file, one row, and what is refused before anything is measured."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from moshi_mlx.cli import share
from moshi_mlx.doctor.check import report
from moshi_mlx.quality.behaviour import builtin
from tests.cli.conftest import Done
from tests.quality.behaviour.voices import needs_synthesizers

Cli = Callable[..., Done]

pytestmark = needs_synthesizers


@pytest.fixture(autouse=True)
def detector() -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (extra: eval)")


@pytest.fixture(autouse=True)
def little(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two scenes, and a second of the check."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(builtin, "COUNTS", {"smooth_turn_taking": 1, "pause_handling": 1})
    monkeypatch.setitem(report.SECONDS, "full", 1.0)
    monkeypatch.setattr(report, "HANGS", 100)


def test_speed_behaviour_and_check_are_in_one_file(moshi_cli: Cli, tiny_folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    done = moshi_cli("bench", "--model", tiny_folder, "--codec", "mlx", "--frames", 3, "--share", file)
    assert done.code == 0, done.err
    shared = json.loads(file.read_text())
    assert {run["mode"] for run in shared["speed"]["runs"]} == {"burst"}
    assert shared["behaviour"]["models"][0]["samples"] == 2
    assert shared["check"]["ok"]
    assert shared["check"]["outcomes"]
    assert str(tmp_path) not in file.read_text(), "nobody is told where things lie"
    assert tiny_folder.name in shared["row"]
    assert len(shared["row"]) == len(share.HEADINGS)
    assert " | ".join(shared["row"]) in done.out
    assert len(list((tmp_path / "mine-answers").rglob("output.json"))) == 2


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "give one with --model"),
        (["--model", "nano", "--json"], "leave out --json"),
    ],
    ids=["no model", "json"],
)
def test_what_would_be_of_no_use_is_refused_at_once(
    moshi_cli: Cli, tmp_path: Path, words: list[str], told: str
) -> None:
    done = moshi_cli("bench", *words, "--share", tmp_path / "mine.json")
    assert done.code == 2
    assert told in done.err
    assert not list(tmp_path.glob("mine*"))


def test_a_folder_that_is_not_there_is_refused_at_once(moshi_cli: Cli, tmp_path: Path) -> None:
    done = moshi_cli("bench", "--model", "nano", "--share", tmp_path / "none" / "mine.json")
    assert done.code == 2
    assert "there is no folder" in " ".join(done.err.split())
