"""The scene of a number: machine, software, commit, command."""

from __future__ import annotations

import os
import platform
import re
import resource
import shlex
import subprocess
import sys
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

CHIP_GB_PER_S = {
    "M1": 68, "M1 Pro": 200, "M1 Max": 400, "M1 Ultra": 800, "M2": 100, "M2 Pro": 200, "M2 Max": 400,
    "M2 Ultra": 800, "M3": 100, "M3 Pro": 150, "M3 Max": 400, "M3 Ultra": 819, "M4": 120, "M4 Pro": 273,
    "M4 Max": 546, "M5": 153, "NVIDIA H200": 4800, "NVIDIA H100 80GB HBM3": 3350,
}  # fmt: skip
"""Memory bandwidth by the makers' data sheets, of the fullest variant of a chip."""


def scene() -> dict[str, Any]:
    """Everything a reader needs to judge a number, ready for JSON."""
    import mlx.core as mx

    name = chip()
    return {
        "chip": name,
        "machine": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "memory_GiB": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "os": platform.platform(),
        "device": str(mx.default_device()),
        "bandwidth_GB_per_s": bandwidth(name),
        "load_average": round(os.getloadavg()[0], 2),
        "blas": "OpenBLAS" if "openblas" in os.environ.get("LD_PRELOAD", "") else "as shipped",
        "python": platform.python_version(),
        "mlx": version("mlx"),
        "moshi_mlx": own_version(),
        "commit": commit(),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def chip() -> str:
    """What computes here: the GPU's name where MLX runs on an NVIDIA card, else the processor's."""
    import mlx.core as mx

    if mx.default_device() == mx.gpu and sys.platform != "darwin":
        return (
            _output(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]).partition("\n")[0] or "CUDA GPU"
        )
    if sys.platform == "darwin":
        return _output(["sysctl", "-n", "machdep.cpu.brand_string"]) or "Apple Silicon"
    try:
        names = re.findall(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        names = []
    return names[0] if names else platform.processor() or "unknown"


def bandwidth(chip: str) -> float | None:
    """Memory bandwidth of a chip in GB/s by its data sheet; None if unknown here."""
    return CHIP_GB_PER_S.get(chip.removeprefix("Apple "))


def commit() -> str | None:
    """The commit this package runs from, with "-dirty" after changes; None outside of a git checkout."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    return _output(["git", "-C", str(root), "describe", "--always", "--dirty"]) or None


def own_version() -> str:
    """This package's version as installed, else as written."""
    from moshi_mlx.version import __version__

    try:
        return version("moshi-mlx")
    except PackageNotFoundError:
        return __version__


def resident_peak() -> int:
    """The most memory the process ever had, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # kibibytes everywhere but on macOS


def _output(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""
