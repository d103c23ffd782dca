"""Whether MLX computes rightly here: `moshi-mlx doctor --check`, and once before `chat` and `serve`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from moshi_mlx.cli.interruption import undone
from moshi_mlx.doctor.check.memory import problem_here
from moshi_mlx.doctor.check.report import CheckReport, run_check
from moshi_mlx.doctor.report import Checkup, Finding
from moshi_mlx.errors import MoshiError
from moshi_mlx.version import __version__
from moshi_mlx.weights.atomic import AtomicPath
from moshi_mlx.weights.progress import progress_bar


@undone("the check is not finished, and nothing is reported")
def checked() -> CheckReport:
    """Check every operation at Moshi's shapes, with a bar."""
    with ExitStack() as stack:
        bar: list[Callable[[int], None]] = []

        def advance(done: int, of: int) -> None:
            if not bar:
                bar.append(stack.enter_context(progress_bar("checking MLX", of, unit="cases")))
            bar[0](1)

        return run_check("full", advance)


def warn_once(say: Callable[[str], None]) -> None:
    """Say in one line if MLX computes wrongly here. The first time this takes some seconds."""
    if problem := problem_here(begin=_announce):
        say(f"{problem} (see moshi-mlx doctor --check)")


def _announce() -> None:
    if sys.stderr.isatty():
        print("checking MLX on this machine, once", file=sys.stderr, flush=True)


def write_report(path: Path, checkup: Checkup, check: CheckReport | None, found: list[Finding]) -> None:
    """Write what somebody who reads an issue wants to know, without folders, names of files, or devices.

    check: None where MLX does not start. found: all that doctor says; what is wrong of it is kept.
    Raises MoshiError.
    """
    with AtomicPath(path, MoshiError) as part:
        part.write_text(json.dumps(as_report(checkup, check, found), indent=1) + "\n", encoding="utf-8")


def as_report(checkup: Checkup, check: CheckReport | None, found: list[Finding]) -> dict[str, Any]:
    """Return what `write_report` writes."""
    return {
        "moshi_mlx": __version__,
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": asdict(checkup.machine),
        "mlx": {**checkup.mlx.found, "version": checkup.packages["mlx"], "problem": checkup.mlx.problem or None},
        "packages": dict(checkup.packages),
        "check": check.as_json() if check else None,
        "problems": [asdict(one) for one in found if one.mark == "bad" and one.section != "Defaults"],
    }
