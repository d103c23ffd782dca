"""The scene of a measurement: machine, software, commit, command."""

from __future__ import annotations

import os
import platform
import resource
import shlex
import subprocess
import sys
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

from moshi_mlx.machine import this_machine
from moshi_mlx.version import __version__


def scene() -> dict[str, Any]:
    """Describe what a reader needs to judge a measurement, ready for JSON."""
    import mlx.core as mx

    machine = this_machine()
    cuda = mx.default_device() == mx.gpu and machine.gpu is not None
    return {
        "chip": machine.gpu if cuda else machine.chip,
        "architecture": machine.architecture,
        "cores": machine.cores,
        "gpu_cores": machine.gpu_cores,
        "memory_GiB": round(machine.memory_for_models(cuda) / 2**30, 1),
        "os": f"{machine.system} {machine.system_version}",
        "device": str(mx.default_device()),
        "bandwidth_GB_per_s": machine.bandwidth(cuda),
        "load_average": round(os.getloadavg()[0], 2),
        "blas": "OpenBLAS" if "openblas" in os.environ.get("LD_PRELOAD", "") else "as shipped",
        "python": platform.python_version(),
        "mlx": version("mlx"),
        "moshi_mlx": __version__,
        "commit": commit(),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def commit() -> str | None:
    """Return the commit this package runs from, "-dirty" after changes; None outside of a git checkout."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10).stdout.strip() or None
    except (OSError, subprocess.TimeoutExpired):
        return None


def resident_peak() -> int:
    """Return the most memory the process ever held, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # kibibytes everywhere but on macOS
