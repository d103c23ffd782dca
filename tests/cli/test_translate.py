"""`moshi-mlx translate`, and conditions and guidance in other commands."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile

from tests.cli.conftest import Done

Cli = Callable[..., Done]
CUT_OFF = "note: the model has not said that the translation has ended within 1 s after the recording"


def test_a_recording_is_translated(moshi_cli: Cli, question: Path, hibiki_folder: Path, tmp_path: Path) -> None:
    answer, words = tmp_path / "english.wav", tmp_path / "english.srt"
    given = ["-m", hibiki_folder, "--codec", "mlx", "--seed", 3, "--tail", 1]
    done = moshi_cli("translate", question, answer, *given, "--transcript", words)
    assert done.code == 0, done.err
    assert done.out.strip()
    assert "-->" in words.read_text()
    frames = soundfile.info(answer).frames
    # 38 frames of recording, the mark and a second, less the two by which audio is late; or its own end before.
    assert frames == (38 + 1 + 13 - 1) * 1920 or CUT_OFF not in done.err
    assert "translation in" in done.err

    again = moshi_cli("translate", question, *given, "--json", "--condition", "description=very_good")
    events = [json.loads(line) for line in again.out.splitlines()]
    assert events[-1]["event"] == "end"
    assert events[-1]["text"] == done.out.strip()
    assert events[-1]["ended"] is (CUT_OFF not in again.err)
    for other in (["--condition", "description=bad"], ["--cfg", 3]):
        changed = moshi_cli("translate", question, *given, *other)
        assert changed.code == 0, changed.err
        assert changed.out != done.out


def test_run_has_conditions_and_guidance_too(moshi_cli: Cli, question: Path, hibiki_folder: Path) -> None:
    given = ["run", question, "-m", hibiki_folder, "--codec", "mlx", "--seed", 3, "--lead", 0, "--tail", 0]
    said = {
        moshi_cli(*given, *other).out
        for other in ([], ["--condition", "description=neutral"], ["--cfg", 2.5], ["--cfg", 1])
    }
    assert len(said) == 3, "guidance of 1 is none"


@pytest.mark.parametrize("command", ["run", "translate"])
@pytest.mark.parametrize(
    ("options", "code", "error"),
    [
        (["--condition", "mood=good"], 1, "this model has no conditioner 'mood' (only description)"),
        (
            ["--condition", "description=fine"],
            1,
            "conditioner 'description' has no value 'fine'; "
            "it must be one of very_bad, bad, neutral, good, very_good",
        ),
        (
            ["--condition", "description"],
            2,
            "--condition description: NAME=VALUE expected, such as description=good",
        ),
        (["--cfg", "nan"], 1, "guidance of nan: a number expected, 1 for none"),
    ],
)
def test_wrong_conditions_are_refused_in_one_line(
    moshi_cli: Cli, question: Path, hibiki_folder: Path, command: str, options: list[str], code: int, error: str
) -> None:
    done = moshi_cli(command, question, "-m", hibiki_folder, "--quiet", *options)
    assert (done.code, done.out) == (code, "")
    assert done.err.splitlines()[-1].removeprefix("error: ").removeprefix("Error: ").endswith(error)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--condition", "description=good"], "no conditioner 'description' (it takes no conditions)"),
        (["--cfg", 3], "guidance of 3 compares two conditions, but this model takes none; leave it at 1"),
    ],
)
def test_a_model_without_conditions_refuses_them(
    moshi_cli: Cli, question: Path, tiny_folder: Path, options: list[object], error: str
) -> None:
    done = moshi_cli("run", question, "-m", tiny_folder, "--quiet", *options)
    assert done.code == 1
    assert done.err.endswith(f"{error}\n")


def test_only_a_translation_model_translates(moshi_cli: Cli, question: Path, tiny_folder: Path) -> None:
    done = moshi_cli("translate", question, "-m", tiny_folder, "--quiet")
    assert done.code == 1
    assert done.err == f"error: {tiny_folder} is no translation model: translate with one such as hibiki-1b\n"


def test_run_says_that_translate_exists_to_who_runs_a_translation_model(
    moshi_cli: Cli, question: Path, hibiki_folder: Path, tiny_folder: Path
) -> None:
    given = ["run", question, "--codec", "mlx", "--seed", 3, "--lead", 0, "--tail", 0, "--quiet"]
    note = f"note: {hibiki_folder} is a translation model: `moshi-mlx translate --model {hibiki_folder}` tells it"
    assert note in moshi_cli(*given, "-m", hibiki_folder).err
    assert moshi_cli(*given, "-m", tiny_folder).err == ""
    assert "is a translation model" not in moshi_cli("translate", question, "-m", hibiki_folder, "--tail", 1).err
