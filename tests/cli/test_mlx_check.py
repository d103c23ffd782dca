"""`moshi-mlx doctor --check` and `--report`, and the one line that `chat` and `serve` give."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from moshi_mlx.cli import mlx_check
from moshi_mlx.doctor.check.report import CheckReport
from moshi_mlx.doctor.probe import Probe
from tests.cli.conftest import Done
from tests.cli.test_doctor import GOOD, verdict

Doctor = Callable[..., Done]
RIGHT = {
    "operation": "window", "detail": "bf16", "status": "right", "error": 0.002, "tolerance": 0.01, "seconds": 0.1,
    "problem": "", "known": "",
}  # fmt: skip


def found(monkeypatch: pytest.MonkeyPatch, **more: Any) -> list[str]:
    """Let the check find this; returns the kinds that were asked for."""
    made: list[str] = []

    def run(kind: str, advance: Callable[[int, int], None]) -> CheckReport:
        made.append(kind)
        advance(1, 1)
        return CheckReport(kind, "1.2", "Device(gpu, 0)", [{**RIGHT, **more}])

    monkeypatch.setattr(mlx_check, "run_check", run)
    return made


def test_nothing_is_checked_unasked(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    made = found(monkeypatch)
    assert "Check" not in doctor(GOOD).out
    assert json.loads(doctor(GOOD, "--json").out)["check"] is None
    assert made == []


def test_what_is_right_is_a_line_for_each_operation(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    made = found(monkeypatch)
    done = doctor(GOOD, "--check")
    assert (done.code, done.err, made) == (0, "", ["full"])
    assert verdict(done).startswith("You can talk to")
    assert "Check (Device(gpu, 0))" in done.out
    assert "✓ window           1 cases, off by 2.0e-03 at most, 1e-02 allowed" in done.out


def test_what_is_wrong_comes_first_and_fails(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    found(monkeypatch, status="wrong", error=0.5)
    done = doctor(GOOD, "--check")
    assert done.code == 1
    assert verdict(done).startswith("MLX 1.2 on Device(gpu, 0) computes wrongly: window (bf16: off by 5.0e-01")
    assert json.loads(doctor(GOOD, "--check", "--json").out)["check"]["outcomes"][0]["status"] == "wrong"


def test_a_report_has_what_an_issue_needs_and_nothing_private(
    doctor: Doctor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found(monkeypatch, status="wrong", error=0.5)
    done = doctor(GOOD, "--report", str(tmp_path / "mlx.json"))
    assert done.code == 1
    text = (tmp_path / "mlx.json").read_text()
    report = json.loads(text)
    assert report["machine"]["chip"] == "Apple M2 Pro"
    assert report["mlx"] == {"backend": "Metal", "version": "1.2", "problem": None}
    assert report["check"]["outcomes"][0]["error"] == 0.5
    assert [one["label"] for one in report["problems"]] == ["window", "wrong"]
    assert str(Path.home()) not in text
    assert "Microphone" not in text


def test_without_mlx_there_is_a_report_but_no_check(
    doctor: Doctor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = found(monkeypatch)
    done = doctor(replace(GOOD, mlx=Probe(problem="MLX does not start")), "--report", str(tmp_path / "mlx.json"))
    assert (done.code, made) == (1, [])
    report = json.loads((tmp_path / "mlx.json").read_text())
    assert (report["check"], report["mlx"]["problem"]) == (None, "MLX does not start")


def test_a_report_that_cannot_be_written_is_an_error(
    doctor: Doctor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found(monkeypatch)
    done = doctor(GOOD, "--report", str(tmp_path / "nowhere" / "mlx.json"))
    assert done.code == 1
    assert f"cannot write {tmp_path / 'nowhere' / 'mlx.json'}: No such file" in done.err


@pytest.mark.parametrize("problem", ["", "MLX 9 computes wrongly: attention"])
def test_a_conversation_begins_with_a_line_only_if_something_is_wrong(
    monkeypatch: pytest.MonkeyPatch, problem: str
) -> None:
    said: list[str] = []
    monkeypatch.setattr(mlx_check, "problem_here", lambda begin: problem)
    mlx_check.warn_once(said.append)
    assert said == ([f"{problem} (see moshi-mlx doctor --check)"] if problem else [])


def test_mlx_is_not_needed_to_say_so() -> None:
    code = "import sys, moshi_mlx.cli.mlx_check; print(*{'mlx', 'mlx.core'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
