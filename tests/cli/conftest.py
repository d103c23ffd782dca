"""Running the command line inside the test's process, as a shell would run it outside."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from moshi_mlx.doctor.report import Checkup

QUESTION = Path(__file__).parents[1] / "data" / "question.flac"


@dataclass(frozen=True)
class Done:
    """What a command left: exit code and what it printed."""

    code: int
    out: str
    err: str


@pytest.fixture
def moshi_cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Call it with the words after `moshi-mlx`."""
    from moshi_mlx.cli.main import main

    def call(*words: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["moshi-mlx", *map(str, words)])
        with pytest.raises(SystemExit) as left:
            main()
        printed = capsys.readouterr()
        return Done(int(left.value.code or 0), printed.out, printed.err)

    return call


@pytest.fixture
def question() -> Path:
    """A recorded question."""
    return QUESTION


@pytest.fixture
def doctor(moshi_cli: Callable[..., Done], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    """Run it with a given checkup."""
    from moshi_mlx.cli import doctor as command
    from moshi_mlx.codec import load

    monkeypatch.setenv("TERM_PROGRAM", "iTerm.app")

    def call(checkup: "Checkup", *words: str) -> Done:
        monkeypatch.setattr(command, "gather", lambda: checkup)
        monkeypatch.setattr(load, "find_spec", checkup.packages.get)
        return moshi_cli("doctor", *words)

    return call
