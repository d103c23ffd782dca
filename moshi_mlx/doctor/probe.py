"""What is installed and whether it works, found out without importing any of it here.

MLX and PortAudio may end a process when they do not fit the system, so they are tried in processes of their own;
versions are read from the packages' metadata; the hub's cache is looked at, the network never asked.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moshi_mlx.errors import CheckpointError
from moshi_mlx.planning.planner import ModelSize, size_of
from moshi_mlx.version import __version__

if TYPE_CHECKING:
    from moshi_mlx.models.mimi_config import MimiConfig

FOLDER = Path(__file__).parents[1]  # of this package

PACKAGES = {
    "mlx": "MLX is missing and nothing can run; pip install mlx (on Linux 'mlx[cpu]' or 'mlx[cuda13]')",
    "numpy": "nothing can run without it; pip install numpy",
    "sentencepiece": "no model's text can be read without it; pip install sentencepiece",
    "huggingface_hub": "models cannot be downloaded, only folders can be used; pip install huggingface_hub",
    "rustymimi": "the codec runs in MLX instead (pip install rustymimi; it has no wheel for Python 3.14)",
    "sounddevice": "microphone and speaker cannot be used, recordings can; pip install sounddevice",
}
"""Package -> what it means, and what to do, if it is missing."""
REQUIRED = ("mlx", "numpy", "sentencepiece")

# The arithmetic makes Metal load its library of kernels, which a mere import may leave for later.
_TRY_MLX = """
import json, mlx.core as mx
total = (mx.ones((8, 8)) @ mx.ones((8, 8))).sum().item()
cuda = getattr(mx, "cuda", None)
backend = "Metal" if mx.metal.is_available() else "CUDA" if cuda and cuda.is_available() else "CPU"
among = [name for name in ("ring", "jaccl", "mpi", "nccl") if mx.distributed.is_available(name)]
print(json.dumps({"backend": backend, "right": total == 512, "among_processes": among}))
"""
_TRY_KERNELS = """
import json, mlx.core as mx
from moshi_mlx.models import add_norm
from moshi_mlx.models.config import MOSHI_7B, LmConfig
config = LmConfig.from_dict(MOSHI_7B)
for stack in (config.transformer, config.depth.transformer):
    add_norm.prepare(stack.dim, mx.bfloat16)
print(json.dumps({"trials": [[str(trial), trial.used] for trial in add_norm.trials.values()]}))
"""
_TRY_AUDIO = """
import json, sounddevice
devices = [
    {"name": d["name"], "inputs": d["max_input_channels"], "outputs": d["max_output_channels"]}
    for d in sounddevice.query_devices()
]
names = [devices[i]["name"] if 0 <= i < len(devices) else None for i in sounddevice.default.device]
print(json.dumps({"devices": devices, "default_input": names[0], "default_output": names[1]}))
"""
_CHECK_MODEL = """
import sys
from moshi_mlx.checkpoint.checkpoint import Checkpoint
Checkpoint.resolve(sys.argv[1], offline=True)
print("{}")
"""


@dataclass(frozen=True)
class Probe:
    """What became of trying something: `found` if it works, else `problem`, one line with what to do."""

    found: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""


def try_mlx(mlx_version: str | None, system: str, python: str = sys.executable) -> Probe:
    """Multiply two matrices with MLX in a process of its own.

    found: {"backend": "Metal", "CUDA" or "CPU", "among_processes": ["ring", ...]}, these as in `mx.distributed`.
    system: "macOS" or other, with version, for the advice.
    """
    probe = run_python(python, _TRY_MLX)
    if probe.problem:
        return Probe(problem=_mlx_advice(probe.problem, mlx_version, system))
    if not probe.found["right"]:
        return Probe(problem="MLX computes wrong sums here; reinstall it: pip install --force-reinstall mlx")
    return Probe({"backend": probe.found["backend"], "among_processes": probe.found.get("among_processes", [])})


def try_kernels(python: str = sys.executable) -> Probe:
    """Let our own kernels have their trial at Moshi 7B's widths, in a process of its own.

    found: {"trials": [[what became of it, whether it is used], ...]}, none where MLX does not run on Metal.
    """
    return run_python(python, _TRY_KERNELS)


def try_audio(python: str = sys.executable) -> Probe:
    """List audio devices in a process of its own; none is opened.

    found: {"devices": [{"name", "inputs", "outputs"}], "default_input": name or None, "default_output"}.
    """
    probe = run_python(python, _TRY_AUDIO)
    if "PortAudio library not found" in probe.problem:
        return Probe(problem="PortAudio is missing; apt install libportaudio2, or brew install portaudio")
    if "No module named 'sounddevice'" in probe.problem:
        return Probe(problem="sounddevice is not installed; pip install sounddevice")
    if probe.problem:
        return Probe(problem=f"audio devices cannot be listed: {probe.problem}")
    return probe


def measure_model(name: str, check: bool, python: str = sys.executable) -> tuple[ModelSize, float, MimiConfig]:
    """Measure a checkpoint that is on this machine: a folder, a file, or a repository in the hub's cache.

    check: also whether its files fit each other, in a process of its own, for that takes MLX.
    Returns its size, bits per weight, and the config of its codec. Raises MoshiError.
    """
    from moshi_mlx.checkpoint.checkpoint import Checkpoint
    from moshi_mlx.weights.key_map import read_any

    checkpoint = Checkpoint.find(name, offline=True)
    stored = sum(tensor.end - tensor.begin for tensor in read_any(checkpoint.lm_weights).values())
    if check and (problem := run_python(python, _CHECK_MODEL, name).problem):
        raise CheckpointError(problem.partition("Error: ")[2] or problem)
    bits = 8 * stored / size_of(checkpoint.lm_config.as_stored).stored
    return size_of(checkpoint.lm_config), bits, checkpoint.mimi_config


def package_versions() -> dict[str, str | None]:
    """Return the installed version of every package in PACKAGES, None for a missing one."""
    return {name: _version(name) for name in PACKAGES}


def own_problem() -> str:
    """Say what is wrong with this package's own installation, "" for nothing.

    Kyutai's package has the same name; installed over this one, files of both lie in one folder.
    """
    installed = _version("moshi-mlx")
    others = [name for name in ("client_utils.py", "modules/__init__.py") if (FOLDER / name).is_file()]
    mend = "pip uninstall moshi-mlx, then install this package again"
    if others:
        return f"files of Kyutai's moshi_mlx lie among this package's own ({', '.join(others)}); {mend}"
    if installed and installed != __version__:
        owner = "Kyutai's" if installed.startswith(("0.1", "0.2", "0.3")) else "another"
        return f"moshi-mlx {installed} ({owner}) is installed, this is {__version__}; {mend}"
    return ""


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def run_python(python: str, program: str, *words: str, timeout: float = 120) -> Probe:
    """Run a Python program: the JSON object it prints last, or how it ended. timeout: seconds."""
    try:
        done = subprocess.run(
            [python, "-c", program, *words], capture_output=True, text=True, errors="replace", timeout=timeout
        )
    except OSError as error:
        return Probe(problem=f"{python} cannot be started: {error.strerror or error}")
    except subprocess.TimeoutExpired:
        return Probe(problem=f"no answer within {timeout / 60:g} minutes")
    if done.returncode == 0 and done.stdout.strip():
        return Probe(json.loads(done.stdout.strip().splitlines()[-1]))
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    # a line that Metal or the loader wrote, wherever it stands; of a Python error, the last line
    telling = [line for line in lines if "metallib" in line or "not supported on this OS" in line]
    said = " ".join(dict.fromkeys(telling)) or (lines[-1] if lines else "")
    return Probe(problem=said or ending(done.returncode))


def ending(code: int) -> str:
    """Say how a process ended. code: its return code, not 0."""
    return f"the process was ended by signal {-code}" if code < 0 else f"the process ended with code {code}"


def _mlx_advice(problem: str, mlx_version: str | None, system: str) -> str:
    if "No module named 'mlx" in problem:
        return PACKAGES["mlx"]
    if "metallib" in problem or "not supported on this OS" in problem:
        older = f"'mlx<{'.'.join(mlx_version.split('.')[:2])}'" if mlx_version else "an older mlx"
        name = f"MLX {mlx_version}" if mlx_version else "MLX"
        return (
            f"{name} cannot load its Metal kernels on {system}, they are built for a newer macOS; "
            f"upgrade macOS, or pip install --force-reinstall {older}"
        )
    if "libcuda" in problem or "CUDA" in problem:
        return f"MLX's CUDA backend does not start: {problem}; check nvidia-smi, or pip install 'mlx[cpu]'"
    return f"MLX does not start: {problem}; try pip install --force-reinstall mlx"
