"""Ctrl-C in commands that take long: one line says what was done and what was not, and nothing half is left."""

import os
import signal
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

from tests.cli.conftest import QUESTION, Done

Cli = Callable[..., Done]

# What runs, the function and its call in which Ctrl-C comes, the line that is printed.
CASES = [
    (
        "bench --shape moshi-tiny --frames 2", "moshi_mlx.bench.times:measure", 2,
        "the measurement is not finished, and nothing is reported",
    ),
    ("doctor", "moshi_mlx.doctor.probe:package_versions", 1, "the machine was not checked"),
    (
        "quantize TINY made --quiet", "moshi_mlx.quantize.writer:write_tensors", 1,
        "made is not made, and nothing else is left",
    ),
    (
        "quality TINY q8 q4 --audio QUESTION", "moshi_mlx.quality.evaluator:Evaluator.evaluate", 2,
        "1 of 2 candidates were compared, and nothing is reported",
    ),
    (
        "run QUESTION answer.wav -m TINY", "moshi_mlx.runtime.moshi:assemble", 1,
        "the model was not loaded, and nothing is answered",
    ),
    ("transcribe QUESTION", "moshi_mlx.cli.transcription:loaded", 1, "nothing is transcribed"),
]  # fmt: skip


@pytest.fixture
def press(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], None]:
    """Let Ctrl-C come in the n-th call of a function."""

    def at(place: str, call: int) -> None:
        module, _, path = place.partition(":")
        holder, (*names, name) = import_module(module), path.split(".")
        for part in names:
            holder = getattr(holder, part)
        real, calls = getattr(holder, name), []

        def function(*arguments: object, **named: object) -> object:
            calls.append(1)
            if len(calls) == call:
                os.kill(os.getpid(), signal.SIGINT)
            return real(*arguments, **named)

        monkeypatch.setattr(holder, name, function)

    return at


@pytest.mark.parametrize(("words", "place", "call", "says"), CASES, ids=lambda one: str(one).partition(" ")[0])
def test_it_says_what_was_and_was_not_done(
    moshi_cli: Cli,
    press: Callable[[str, int], None],
    tiny_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: str,
    place: str,
    call: int,
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    press(place, call)
    named = {"TINY": str(tiny_folder), "QUESTION": str(QUESTION)}
    done = moshi_cli(*(named.get(word, word) for word in words.split()))
    assert (done.code, done.out) == (130, "")
    assert done.err.splitlines()[-1] == f"interrupted: {says}"
    assert os.listdir(tmp_path) == []


def test_without_a_word_for_it_there_is_still_one(moshi_cli: Cli, press: Callable[[str, int], None]) -> None:
    press("moshi_mlx.audio.devices:list_devices", 1)
    done = moshi_cli("devices")
    assert (done.code, done.out, done.err) == (130, "", "interrupted\n")
