"""What is installed and whether it works, found out without importing any of it here.

MLX and PortAudio may end a process when they do not fit the system, so they are tried in processes of their own;
versions are read from the packages' metadata; the hub's cache is looked at, the network never asked.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from moshi_mlx.version import __version__

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
print(json.dumps({"backend": backend, "right": total == 512}))
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
_TRY_MODEL = """
import json, sys
from dataclasses import replace
from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.models.mimi_config import MIMI
from moshi_mlx.planning.planner import size_of
found = Checkpoint.resolve(sys.argv[1], offline=True)
size = size_of(found.lm_config)
stored = sum(tensor.end - tensor.begin for tensor in found.weights.tensors.values())
published = replace(found.mimi_config, n_q=MIMI.n_q) == MIMI
print(json.dumps({"size": vars(size), "bits": 8 * stored / size.stored, "published_codec": published}))
"""


@dataclass(frozen=True)
class Trial:
    """What became of trying something: `found` if it works, else `problem`, one line with what to do."""

    found: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""


def try_mlx(mlx_version: str | None, system: str, python: str = sys.executable) -> Trial:
    """Multiply two matrices with MLX in a process of its own.

    found: {"backend": "Metal", "CUDA" or "CPU"}. system: "macOS" or other, with version, for the advice.
    """
    trial = _run(python, _TRY_MLX)
    if trial.problem:
        return Trial(problem=_mlx_advice(trial.problem, mlx_version, system))
    if not trial.found["right"]:
        return Trial(problem="MLX computes wrong sums here; reinstall it: pip install --force-reinstall mlx")
    return Trial({"backend": trial.found["backend"]})


def try_audio(python: str = sys.executable) -> Trial:
    """List audio devices in a process of its own; none is opened.

    found: {"devices": [{"name", "inputs", "outputs"}], "default_input": name or None, "default_output"}.
    """
    trial = _run(python, _TRY_AUDIO)
    if "PortAudio library not found" in trial.problem:
        return Trial(problem="PortAudio is missing; apt install libportaudio2, or brew install portaudio")
    if "No module named 'sounddevice'" in trial.problem:
        return Trial(problem="sounddevice is not installed; pip install sounddevice")
    if trial.problem:
        return Trial(problem=f"audio devices cannot be listed: {trial.problem}")
    return trial


def try_model(name: str, python: str = sys.executable) -> Trial:
    """Measure a checkpoint that is on this machine: a folder, a file, or a repository in the hub's cache.

    found: {"size": fields of `planner.ModelSize`, "bits": per weight, "published_codec": rustymimi can be
    used}. In a process of its own, for checkpoints need MLX.
    """
    trial = _run(python, _TRY_MODEL, name)
    return Trial(problem=trial.problem.partition("Error: ")[2] or trial.problem) if trial.problem else trial


def package_versions() -> dict[str, str | None]:
    """Installed version of every package in PACKAGES, None for a missing one."""
    return {name: _version(name) for name in PACKAGES}


def own_problem() -> str:
    """What is wrong with this package's own installation, "" for nothing.

    Kyutai's package has the same name; installed over this one, files of both lie in one folder.
    """
    installed = _version("moshi-mlx")
    others = [name for name in ("client_utils.py", "run_tts.py") if (Path(__file__).parent / name).is_file()]
    mend = "pip uninstall moshi-mlx, then install this package again"
    if others:
        return f"files of Kyutai's moshi_mlx lie among this package's own ({', '.join(others)}); {mend}"
    if installed and installed != __version__:
        owner = "Kyutai's" if installed.startswith(("0.1", "0.2", "0.3")) else "another"
        return f"moshi-mlx {installed} ({owner}) is installed, this is {__version__}; {mend}"
    return ""


def cached_models(repos: Mapping[str, str]) -> dict[str, int]:
    """Bytes in the hub's cache, by alias, of those `repos` (alias -> "owner/name") that are there."""
    try:
        from huggingface_hub import CacheNotFound, scan_cache_dir
    except ImportError:
        return {}
    try:
        sizes = {repo.repo_id: repo.size_on_disk for repo in scan_cache_dir().repos if repo.repo_type == "model"}
    except (CacheNotFound, OSError):  # never used, or not ours to read
        return {}
    return {alias: sizes[repo] for alias, repo in repos.items() if repo in sizes}


def free_disk() -> tuple[Path, int]:
    """Where downloads go, and how many bytes are free there."""
    try:
        from huggingface_hub import constants

        cache = Path(constants.HF_HUB_CACHE)
    except ImportError:
        cache = Path.home()
    there = next(folder for folder in (cache, *cache.absolute().parents) if folder.is_dir())
    return cache, shutil.disk_usage(there).free


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _run(python: str, program: str, *words: str) -> Trial:
    """The JSON object a program prints last, or how it ended."""
    try:
        done = subprocess.run(
            [python, "-c", program, *words], capture_output=True, text=True, errors="replace", timeout=120
        )
    except OSError as error:
        return Trial(problem=f"{python} cannot be started: {error.strerror or error}")
    except subprocess.TimeoutExpired:
        return Trial(problem="no answer within two minutes")
    if done.returncode == 0 and done.stdout.strip():
        return Trial(json.loads(done.stdout.strip().splitlines()[-1]))
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    # a line that Metal or the loader wrote, wherever it stands; of a Python error, the last line
    telling = [line for line in lines if "metallib" in line or "not supported on this OS" in line]
    said = " ".join(dict.fromkeys(telling)) or (lines[-1] if lines else "")
    return Trial(problem=said or _ending(done.returncode))


def _ending(code: int) -> str:
    return f"the process was ended by signal {-code}" if code < 0 else f"the process ended with code {code}"


def _mlx_advice(problem: str, mlx_version: str | None, system: str) -> str:
    if "No module named 'mlx" in problem:
        return PACKAGES["mlx"]
    if "metallib" in problem or "not supported on this OS" in problem:
        older = f"'mlx<{_minor(mlx_version)}'" if mlx_version else "an older mlx"
        name = f"MLX {mlx_version}" if mlx_version else "MLX"
        return (
            f"{name} cannot load its Metal kernels on {system}, they are built for a newer macOS; "
            f"upgrade macOS, or pip install --force-reinstall {older}"
        )
    if "libcuda" in problem or "CUDA" in problem:
        return f"MLX's CUDA backend does not start: {problem}; check nvidia-smi, or pip install 'mlx[cpu]'"
    return f"MLX does not start: {problem}; try pip install --force-reinstall mlx"


def _minor(version: str) -> str:
    """0.32.4 -> 0.32"""
    return ".".join(version.split(".")[:2])
