"""`--voice` and `--persona`, as a person gives them."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from moshi_mlx.audio.files import read_audio
from moshi_mlx.checkpoint import nano
from moshi_mlx.frames import SAMPLE_RATE
from tests.cli.conftest import Done
from tests.persona_folder import VOICE, write_persona
from tests.sound_card import SoundCard

pytestmark = pytest.mark.slow

Cli = Callable[..., Done]
ROLE = "You are a wise teacher."


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_persona(tmp_path_factory.mktemp("persona") / "model")


@pytest.fixture
def answered(moshi_cli: Cli, folder: Path, tmp_path: Path) -> Callable[..., str]:
    """What is said to half a second of noise, with these options."""
    noise = 0.1 * np.random.RandomState(1).standard_normal(12_000)
    soundfile.write(tmp_path / "noise.wav", noise, 24_000)

    def run(*options: object) -> str:
        silence = ("--lead", 0, "--tail", 1, "--text-temperature", 0, "--audio-temperature", 0)
        done = moshi_cli("run", tmp_path / "noise.wav", "--model", folder, "--codec", "mlx", *silence, *options)
        assert done.code == 0, done.err
        return done.out

    return run


def test_a_role_and_a_voice_change_the_answer(answered: Callable[..., str], tmp_path: Path) -> None:
    plain, role = answered(), answered("--persona", ROLE)
    assert role != plain
    (tmp_path / "role.txt").write_text(f"{ROLE}\n")
    assert answered("--persona", f"@{tmp_path / 'role.txt'}") == role
    voiced = answered("--persona", ROLE, "--voice", VOICE)
    assert voiced != role
    assert answered("--persona", ROLE, "--voice", f"{VOICE}.pt") == voiced  # as clients of PersonaPlex say it


def test_a_voice_may_be_a_file_or_a_recording(
    answered: Callable[..., str], folder: Path, question: Path, tmp_path: Path
) -> None:
    named = answered("--voice", VOICE)
    assert answered("--voice", folder / "voices" / f"{VOICE}.safetensors") == named
    recorded = answered("--voice", question)
    assert recorded not in (named, answered())
    pcm, rate = soundfile.read(question)
    soundfile.write(tmp_path / "quiet.wav", 0.1 * pcm, rate, "FLOAT")
    assert answered("--voice", tmp_path / "quiet.wav") == recorded  # every voice is heard equally loud


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--voice", "NATF3"), "has no voice 'NATF3': it has NATF9; or give a file"),
        (("--voice", "./there.pt"), "cannot read there.pt: No such file or directory"),
        (("--voice", "./there.wav"), "there.wav"),
        (("--persona", "@there.txt"), "cannot read the role there.txt: No such file or directory"),
        (("--persona", "word " * 300), "longer than the model's window of 200"),
    ],
)
def test_what_cannot_be_had_is_one_line(
    moshi_cli: Cli, folder: Path, question: Path, options: tuple[str, str], message: str
) -> None:
    done = moshi_cli("run", question, "--model", folder, "--codec", "mlx", "--quiet", *options)
    assert done.code == 1
    assert message in done.err
    assert done.err.count("\n") == 1


def test_a_model_without_prompts_says_so_before_it_loads(
    moshi_cli: Cli, tiny_folder: Path, question: Path
) -> None:
    done = moshi_cli("run", question, "--model", tiny_folder, "--codec", "mlx", "--quiet", "--persona", ROLE)
    assert done.code == 1
    assert "this model takes no prompt; PersonaPlex does" in done.err
    assert done.err.count("\n") == 1


def test_so_does_chat(moshi_cli: Cli, sound_card: SoundCard, tiny_folder: Path) -> None:
    devices = ("--input", "virtmic", "--output", "virtspk")
    done = moshi_cli("chat", "--model", tiny_folder, "--codec", "mlx", "--quiet", "--persona", ROLE, *devices)
    assert done.code == 1
    assert "this model takes no prompt; PersonaPlex does" in done.err
    assert done.err.count("\n") == 1


def test_the_voices_of_a_model_are_listed(moshi_cli: Cli, folder: Path, tiny_folder: Path) -> None:
    assert moshi_cli("models", "voices", folder).out == f"{VOICE}\n"
    listed = json.loads(moshi_cli("models", "voices", folder, "--json").out)
    assert listed == {"model": str(folder), "voices": [VOICE]}
    none = moshi_cli("models", "voices", tiny_folder)
    assert (none.out, none.code) == ("", 0)
    assert "has no voices" in none.err


def test_the_model_in_the_package_obeys(moshi_cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    pcm = read_audio(nano.RECORDING).pcm[: 2 * SAMPLE_RATE]
    soundfile.write(tmp_path / "question.wav", pcm, SAMPLE_RATE)

    def said(manner: str, voice: str) -> str:
        role = ("--persona", f"You are Ada and you are {manner}.", "--voice", voice)
        done = moshi_cli("run", tmp_path / "question.wav", "--model", nano.PERSONA_NAME, *role)
        assert done.code == 0, done.err
        return done.out

    assert said("brief", "male") == said("brief", "female") == "Paris.\n"
    assert said("formal", "male") == "The capital would be Paris.\n"
    done = moshi_cli("models", "voices", nano.PERSONA_NAME)
    assert done.out.split() == ["female", "male"]
