"""The reproductions in `tests/cases`: each prints PASS when the program does what is right."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CASES = Path(__file__).parent / "cases"
# Known to fail; whoever mends one takes its name out, for an unexpected pass fails as well.
FAILING = {
    "damaged_cache_advice",
    "dangling_symlink",
    "doctor_half_download",
    "foreign_config",
    "nan_weights",
    "peft_adapter",
    "shards_beside_moshi_name",
}


@pytest.mark.parametrize("name", sorted(path.stem for path in CASES.glob("*.sh")))
def test_case(name: str, request: pytest.FixtureRequest) -> None:
    if name in FAILING:
        request.applymarker(pytest.mark.xfail(reason="a known fault", strict=True))
    program = Path(sys.executable).with_name("moshi-mlx")
    done = subprocess.run(
        ["sh", CASES / f"{name}.sh"],
        env={**os.environ, "PY": sys.executable, "MOSHI": str(program)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout.splitlines()[-1:] == ["PASS"], done.stdout + done.stderr
