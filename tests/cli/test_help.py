"""Help: instant, true, and written down."""

import subprocess
import sys
from pathlib import Path

import pytest
import typer

from moshi_mlx.cli.main import app
from moshi_mlx.version import __version__

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


def test_version_and_no_command() -> None:
    command = [sys.executable, "-m", "moshi_mlx"]
    done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"moshi-mlx {__version__}\n"
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


def test_docs_cli_is_up_to_date() -> None:
    done = subprocess.run([sys.executable, ROOT / "scripts" / "make_cli_docs.py", "--check"], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
