"""What is installed, and what is made of programs that crash."""

import json
import shutil
import subprocess
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from moshi_mlx.doctor import probe
from moshi_mlx.doctor.probe import Probe, measure_model, try_audio, try_mlx
from moshi_mlx.errors import CheckpointError

METALLIB = (
    "Failed to load the default metallib. This library is using language version 4.0 "
    "which is not supported on this OS. library not found"
)
FakePython = Callable[[str], str]


@pytest.fixture
def fake_python(tmp_path: Path) -> FakePython:
    """A program in Python's place that runs these lines of shell."""

    def make(script: str) -> str:
        path = tmp_path / "python"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return str(path)

    return make


def test_mlx_works_here() -> None:
    import mlx.core as mx

    found = try_mlx("1.2", "Linux").found
    assert found["backend"] == ("CPU" if mx.default_device() == mx.cpu else found["backend"])
    assert found["backend"] in ("Metal", "CUDA", "CPU")
    assert "ring" in found["among_processes"], "which MLX always has"


@pytest.mark.parametrize(
    "ending", [f"echo 'ImportError: {METALLIB}' >&2; exit 1", f"echo '{METALLIB}' >&2; kill -ABRT $$"]
)
def test_a_metallib_of_a_newer_macos_becomes_advice(fake_python: FakePython, ending: str) -> None:
    found = try_mlx("0.31.2", "macOS 15.6.1", fake_python(ending))
    assert found.found == {}
    assert "MLX 0.31.2" in found.problem
    assert "macOS 15.6.1" in found.problem
    assert "upgrade macOS, or pip install --force-reinstall 'mlx<0.31'" in found.problem
    assert "\n" not in found.problem


def test_a_metallib_message_before_other_lines_is_found(fake_python: FakePython) -> None:
    script = f"echo '{METALLIB}' >&2; echo 'libc++abi: terminating' >&2; kill -ABRT $$"
    assert "upgrade macOS" in try_mlx("0.31.2", "macOS 15.6.1", fake_python(script)).problem


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("kill -SEGV $$", "signal 11"),
        ("exit 3", "code 3"),
        ("echo \"ModuleNotFoundError: No module named 'mlx'\" >&2; exit 1", "pip install mlx"),
        ("echo 'ImportError: libcuda.so.1: cannot open shared object file' >&2; exit 1", "nvidia-smi"),
        ("echo 'RuntimeError: something new' >&2; exit 1", "RuntimeError: something new"),
        ('echo \'{"backend": "CPU", "right": false}\'', "wrong sums"),
    ],
)
def test_any_other_end_of_mlx_becomes_one_line(fake_python: FakePython, script: str, said: str) -> None:
    problem = try_mlx("0.31.2", "Linux", fake_python(script)).problem
    assert said in problem
    assert "\n" not in problem


def test_a_trial_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(*words: object, **options: object) -> None:
        raise subprocess.TimeoutExpired("python", 120)

    monkeypatch.setattr(subprocess, "run", hang)
    assert "no answer" in try_mlx("0.31.2", "Linux").problem
    assert "no answer" in try_audio().problem


def test_a_python_that_is_not_there_is_a_problem() -> None:
    assert "/no/python" in try_audio("/no/python").problem


@pytest.mark.parametrize(
    ("message", "advice"),
    [
        ("OSError: PortAudio library not found", "libportaudio2"),
        ("ModuleNotFoundError: No module named 'sounddevice'", "pip install sounddevice"),
        ("sounddevice.PortAudioError: Error querying host API", "Error querying host API"),
    ],
)
def test_audio_that_cannot_be_asked_becomes_advice(fake_python: FakePython, message: str, advice: str) -> None:
    script = f'echo Traceback >&2; echo "{message}" >&2; exit 1'
    assert advice in try_audio(fake_python(script)).problem


def test_devices_are_counted_as_sounddevice_gives_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "sounddevice.py").write_text(
        "def query_devices():\n"
        "    return [{'name': 'AirPods', 'max_input_channels': 1, 'max_output_channels': 0},\n"
        "            {'name': 'Speakers', 'max_input_channels': 0, 'max_output_channels': 2}]\n"
        "class default: device = [0, -1]\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert try_audio() == Probe(
        {
            "devices": [
                {"name": "AirPods", "inputs": 1, "outputs": 0},
                {"name": "Speakers", "inputs": 0, "outputs": 2},
            ],
            "default_input": "AirPods",
            "default_output": None,
        }
    )


@pytest.mark.parametrize("check", [True, False])
def test_a_folder_is_measured(tiny_folder: Path, check: bool) -> None:
    from moshi_mlx.checkpoint.random_checkpoint import TINY, TINY_MIMI
    from moshi_mlx.models.config import LmConfig
    from moshi_mlx.models.mimi_config import MimiConfig
    from moshi_mlx.planning.planner import size_of

    size, bits, mimi = measure_model(str(tiny_folder), check)
    assert size == size_of(LmConfig.from_dict(TINY))
    assert bits == pytest.approx(32, rel=0.02)  # float32; norms are not counted as weights
    assert mimi == MimiConfig.from_dict(TINY_MIMI)


def test_a_model_whose_files_do_not_fit_is_told_in_the_words_of_its_error(
    tiny_folder: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "model"
    shutil.copytree(tiny_folder, broken)
    config = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps({**config, "num_layers": 3}))
    with pytest.raises(CheckpointError, match=f"'num_layers' is 3; it needs 3 layers, but {broken}.* has 2$"):
        measure_model(str(broken), check=True)
    with pytest.raises(CheckpointError, match=r"^/no/model does not exist"):
        measure_model("/no/model", check=True)


def test_versions_come_from_metadata_and_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "rustymimi":
            raise metadata.PackageNotFoundError(name)
        return "1.2"

    monkeypatch.setattr(metadata, "version", version)
    found = probe.package_versions()
    assert found.pop("rustymimi") is None
    assert set(found.values()) == {"1.2"}
    assert {"mlx", "numpy", "sounddevice", "huggingface_hub"} <= set(found)


def test_kyutais_package_in_this_ones_place_is_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert probe.own_problem() == ""
    assert (probe.FOLDER / "__main__.py").is_file()
    monkeypatch.setattr(metadata, "version", lambda name: "0.3.0")
    assert "moshi-mlx 0.3.0 (Kyutai's) is installed" in probe.own_problem()
    monkeypatch.setattr(probe, "FOLDER", tmp_path)
    (tmp_path / "client_utils.py").touch()
    assert "files of Kyutai's moshi_mlx" in probe.own_problem()
