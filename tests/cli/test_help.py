"""Help: instant, true, and written down."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from moshi_mlx.cli.main import app
from moshi_mlx.version import __version__
from tests.cli.conftest import Done

ROOT = Path(__file__).parents[2]
HEAVY = {"mlx", "mlx_lm", "numpy", "sounddevice", "soundfile", "huggingface_hub", "rustymimi", "aiohttp"}


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    code = (
        "import sys, atexit\n"
        f"atexit.register(lambda: print('HEAVY', *sorted({HEAVY} & set(sys.modules))))\n"
        "from moshi_mlx.cli.main import main\n"
        f"sys.argv = ['moshi-mlx', *{words}]\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "HEAVY"
    assert len(done.stdout.splitlines()) > 1


@pytest.mark.parametrize("word", ["--version", "-V"])
def test_version(word: str) -> None:
    done = subprocess.run([sys.executable, "-m", "moshi_mlx", word], capture_output=True, text=True, check=True)
    assert done.stdout == f"moshi-mlx {__version__}\n"


def test_no_command_shows_the_help_and_is_wrong_usage() -> None:
    command = [sys.executable, "-m", "moshi_mlx"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert "run" in done.stdout + done.stderr
    assert done.returncode == 2


def test_the_help_shows_the_defaults_that_are_used() -> None:
    from dataclasses import asdict

    from moshi_mlx.audio.file_stream import DEFAULT_LEAD, DEFAULT_TAIL
    from moshi_mlx.checkpoint.names import DEFAULT_MODEL
    from moshi_mlx.sampling_config import SamplingConfig
    from moshi_mlx.wire.messages import DEFAULT_PORT

    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    shown = {one.name: one.show_default for name in ("serve", "run") for one in commands[name].params}
    used = {**asdict(SamplingConfig()), "lead": DEFAULT_LEAD, "tail": DEFAULT_TAIL, "model": DEFAULT_MODEL}
    used["port"] = DEFAULT_PORT
    assert {name: shown.get(name) for name in used} == {name: str(value) for name, value in used.items()}


def test_summaries_are_whole_and_h_is_help(moshi_cli: Callable[..., Done]) -> None:
    done = moshi_cli("-h")
    assert done.code == 0
    assert "..." not in done.out.partition("Commands:")[2]
    assert moshi_cli("models", "-h").code == 0
    text = " ".join(done.out.split())
    assert "for the browser's echo cancellation, a telephone, or several people." in text
    assert moshi_cli("run", "-h").out == moshi_cli("run", "--help").out
    front = subprocess.run([sys.executable, "-m", "moshi_mlx.local", "-h"], capture_output=True, text=True)
    assert "--hf-repo" in front.stdout


@pytest.mark.parametrize(
    ("words", "there", "absent"),
    [
        ("moshi-mlx ru", "run", "serve"),
        ("moshi-mlx serve --max", "--max-sessions", "--port"),
        ("moshi-mlx chat --echo l", "linear", "webrtc"),
    ],
)
def test_a_shell_is_told_how_to_go_on(words: str, there: str, absent: str) -> None:
    program = "import sys; sys.argv = ['moshi-mlx']; from moshi_mlx.__main__ import main; main()"
    count = len(words.split()) - 1
    told = {"_MOSHI_MLX_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(count)}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env={**os.environ, **told}
    )
    assert there in done.stdout.split()
    assert absent not in done.stdout


def test_docs_cli_says_what_can_be_given_and_what_is_otherwise() -> None:
    text = (ROOT / "docs" / "cli.md").read_text()
    for row in (
        "| auto, linear, webrtc, off | auto |",
        "| 0 to 65535 | 8998 |",
        "`--open`, `--no-browser` | Open the page in the browser. |  | on |",
        "| `SECONDS`, 1 to 3600 | off |",
        "| `FOLDER` | Where the sound files and timeline.svg go. |  | demo |",
    ):
        assert row in text


def test_docs_cli_is_up_to_date() -> None:
    done = subprocess.run([sys.executable, ROOT / "scripts" / "make_cli_docs.py", "--check"], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
