"""The quick check, done once for every version of MLX on every machine, and remembered."""

from __future__ import annotations

import contextlib
import json
import platform
from collections.abc import Callable
from importlib import metadata
from typing import Any

from moshi_mlx.doctor.check.report import CheckReport, run_check
from moshi_mlx.errors import CheckpointError
from moshi_mlx.machine import cache_folder
from moshi_mlx.models.config_reader import read_json
from moshi_mlx.version import __version__
from moshi_mlx.weights.atomic import AtomicPath

FILE = "check.json"


def problem_here(run: Callable[[str], CheckReport] = run_check, begin: Callable[[], None] = lambda: None) -> str:
    """Return what is wrong with MLX on this machine, in one line; "" if nothing is, or if nobody can tell.

    The first time this takes some seconds, later it is read from a file; where none can be written nothing is
    checked. run: makes the check, `begin` is called before it.
    """
    path, known = cache_folder() / FILE, machine_key()
    with contextlib.suppress(CheckpointError):
        found = read_json(path)
        if found.get("of") == known and isinstance(found.get("problem"), str):
            return found["problem"]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remember("", {})  # could it not be written, every start would wait for a check
    except OSError:
        return ""
    begin()
    problem = run("quick").problem
    remember(problem, known)
    return problem


def remember(problem: str, of: dict[str, Any]) -> None:
    """Write down what was found. of: from `machine_key`. Raises OSError."""
    with AtomicPath(cache_folder() / FILE) as part:
        part.write_text(json.dumps({"of": of, "problem": problem}) + "\n")


def machine_key() -> dict[str, Any]:
    """Return what the result holds for; quick to find out, so no program is asked."""
    # A Mac's name changes with the network it is in; elsewhere homes are shared by machines of several names.
    name = "" if platform.system() == "Darwin" else platform.node()
    return {
        "mlx": {name: _version(name) for name in ("mlx", "mlx-metal", "mlx-cpu", "mlx-cuda-13")},
        "moshi_mlx": __version__,
        "machine": [name, platform.machine(), platform.system(), platform.release()],
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
