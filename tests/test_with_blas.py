"""scripts/with_blas.sh: the BLAS of tests, benchmarks and trainings, and which of its kernels it takes."""

import os
import platform
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "with_blas.sh"
pytestmark = pytest.mark.skipif(
    not list(Path("/usr/lib").glob("*/openblas-pthread/libopenblas.so.0")), reason="OpenBLAS is not here"
)


def core(**given: str) -> str:
    """What OpenBLAS says it runs on."""
    left = {key: value for key, value in os.environ.items() if key not in ("LD_PRELOAD", "OPENBLAS_CORETYPE")}
    done = subprocess.run(
        [SCRIPT, "true"],
        env={**left, "OPENBLAS_VERBOSE": "2", **given},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stderr.strip().removeprefix("Core: ")


def test_openblas_takes_kernels_that_are_as_new_as_the_processor() -> None:
    """One that is older than the processor takes those of 2004 by itself, a quarter as fast."""
    if platform.machine() != "x86_64" or " avx2 " not in Path("/proc/cpuinfo").read_text():
        pytest.skip("this processor has no vectors of 256 bits")
    assert core() not in ("", "Prescott")


def test_a_person_may_choose_the_kernels() -> None:
    if platform.machine() != "x86_64":
        pytest.skip("these are kernels of another processor")
    assert core(OPENBLAS_CORETYPE="Nehalem") == "Nehalem"
