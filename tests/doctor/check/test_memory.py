"""The quick check before a conversation: once for each version of MLX and machine, and never in the way."""

import json
import platform
from pathlib import Path

import pytest

from moshi_mlx.doctor.check import memory
from moshi_mlx.doctor.check.memory import machine_key, problem_here
from moshi_mlx.doctor.check.report import CheckReport

WRONG = {
    "operation": "attention", "detail": "bf16", "status": "wrong", "error": 0.3, "tolerance": 0.01, "seconds": 0.0,
    "problem": "", "known": "",
}  # fmt: skip


class Check:
    """A check that finds something, or nothing, and counts how often it is made."""

    def __init__(self, *outcomes: dict) -> None:
        self.made: list[str] = []
        self._outcomes = outcomes

    def __call__(self, kind: str) -> CheckReport:
        self.made.append(kind)
        return CheckReport(kind, "9.9", "gpu", self._outcomes)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "moshi-mlx"


@pytest.mark.parametrize("outcomes", [(), (WRONG,)], ids=["right", "wrong"])
def test_what_was_found_is_remembered(outcomes: tuple[dict, ...]) -> None:
    check, began = Check(*outcomes), []
    first = problem_here(check, lambda: began.append(1))
    assert ("attention (bf16" in first) == bool(outcomes)
    assert problem_here(check, lambda: began.append(1)) == first
    assert check.made == ["quick"]
    assert began == [1]


def test_another_version_of_mlx_is_checked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    check = Check()
    problem_here(check)
    monkeypatch.setattr(memory, "machine_key", lambda: {**machine_key(), "mlx": {"mlx": "9.9"}})
    problem_here(check)
    problem_here(check)
    assert check.made == ["quick", "quick"]


@pytest.mark.parametrize("held", ["", "[]", '{"of": 1}', "{"], ids=["empty", "list", "other", "cut"])
def test_a_spoilt_file_is_made_anew(cache: Path, held: str) -> None:
    cache.mkdir(parents=True)
    (cache / memory.FILE).write_text(held)
    check = Check()
    assert problem_here(check) == ""
    assert json.loads((cache / memory.FILE).read_text()) == {"of": machine_key(), "problem": ""}


def test_where_nothing_can_be_kept_nothing_is_checked(cache: Path) -> None:
    cache.parent.mkdir()
    cache.write_text("a file where the folder would be")
    check = Check(WRONG)
    assert problem_here(check) == ""
    assert check.made == []


def test_a_check_that_was_interrupted_is_made_again() -> None:
    def interrupted(kind: str) -> CheckReport:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        problem_here(interrupted)
    check = Check()
    problem_here(check)
    assert check.made == ["quick"]


def test_a_mac_in_another_network_is_the_same_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    keys = []
    for name in ("mac.local", "host-12.example.com"):
        monkeypatch.setattr(platform, "node", lambda name=name: name)
        keys.append(machine_key())
    assert keys[0] == keys[1]
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    assert machine_key()["machine"][0] == "host-12.example.com"
