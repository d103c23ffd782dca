"""What is shipped and what is asked for."""

import re
import subprocess
from importlib.metadata import distribution
from pathlib import Path

import pytest

from moshi_mlx.version import __version__
from scripts.check_wheels import PYTHONS

ROOT = Path(__file__).parents[1]


def test_the_installed_package_is_this_one() -> None:
    installed = distribution("moshi-mlx")
    assert installed.version == __version__
    assert {script.name: script.value for script in installed.entry_points} == {
        "moshi-mlx": "moshi_mlx.__main__:main"
    }


def test_dependencies_have_floors_and_no_ceilings() -> None:
    requirements = distribution("moshi-mlx").requires or []
    versions = [requirement.split(";")[0] for requirement in requirements if "extra ==" not in requirement]
    assert len(versions) >= 12
    assert all(re.fullmatch(r"[\w.-]+>=[\d.]+", version.strip()) for version in versions)


def test_rustymimi_is_left_out_where_it_has_no_wheel() -> None:
    (rust,) = [line for line in distribution("moshi-mlx").requires or [] if line.startswith("rustymimi")]
    marker = rust.split(";")[1]
    assert re.fullmatch(r"""\s*python_version < ["']3\.14["']""", marker)


def test_the_supported_pythons_are_the_same_everywhere() -> None:
    """Classifiers, the wheels that are asked for, and what CI runs."""
    project = (ROOT / "pyproject.toml").read_text()
    claimed = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', project)
    (matrix,) = re.findall(r"python: \[(.*)\]", (ROOT / ".github" / "workflows" / "ci.yml").read_text())
    assert claimed == list(PYTHONS) == re.findall(r"3\.\d+", matrix)
    assert f'requires-python = ">={claimed[0]}"' in project


def test_the_question_of_the_demo_is_small_speech() -> None:
    import soundfile

    path = ROOT / "tests" / "data" / "question.flac"
    assert path.stat().st_size <= 60_000
    assert 1.0 < soundfile.info(path).duration < 5.0


@pytest.mark.parametrize(
    "script",
    [
        "check_release.sh",
        "check_synthesizers.sh",
        "install.sh",
        "system_packages.sh",
        "train_nano.sh",
        "train_nano_persona.sh",
        "train_nano_stt.sh",
        "with_blas.sh",
    ],
)
def test_scripts_are_programs(script: str) -> None:
    path = ROOT / "scripts" / script
    assert path.stat().st_mode & 0o111
    subprocess.run(["bash", "-n", path], check=True)


def test_the_makefile_can_be_read() -> None:
    done = subprocess.run(["make", "--dry-run", "help"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
