"""The reproductions in `tests/cases`: each prints PASS when the program does what is right."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

CASES = Path(__file__).parent / "cases"


REAL_TIME = ("right_server", "serve_chunky_pcm")  # a server with Nano, and clients that speak at their pace


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.serial) if name in REAL_TIME else name
        for name in sorted(path.stem for path in CASES.glob("*.sh"))
    ],
)
def test_case(name: str) -> None:
    program = Path(sys.executable).with_name("moshi-mlx")
    done = subprocess.run(
        ["sh", CASES / f"{name}.sh"],
        env={**os.environ, "PY": sys.executable, "MOSHI": str(program)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout.splitlines()[-1:] == ["PASS"], done.stdout + done.stderr
