"""The folder of a run: whose it is, whether it can be gone on with, and the log in it."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.checkpoint.hub import sha256
from moshi_mlx.errors import CheckpointError, system_errors
from moshi_mlx.finetune.output import CHECKPOINTS, Shelf
from moshi_mlx.finetune.report import Report, Sample
from moshi_mlx.finetune.settings import Settings
from moshi_mlx.models.config_reader import read_json
from moshi_mlx.version import __version__
from moshi_mlx.weights.atomic import AtomicPath, remove_abandoned

ABOUT, LOG = "run.json", "log.jsonl"
_MAY_CHANGE = ("save_every", "keep", "eval_every", "eval_windows", "checkpointing", "rows", "sample")


def open_folder(
    folder: Path, checkpoint: Checkpoint, data: str, settings: Settings, resume: bool, replay: str | None = None
) -> int:
    """Prepare the folder of a run, and return how many of its steps were taken already.

    data, replay: as they were named.
    Raises CheckpointError if it holds something else; or a run and not `resume`; or a run with other settings.
    """
    about = {
        "version": __version__,
        "model": checkpoint.name,
        "weights": sha256(checkpoint.lm_weights),
        "data": data,
        "replay": replay,
        "settings": asdict(settings),
    }
    path = folder / ABOUT
    with system_errors(f"cannot write to {folder}", CheckpointError):
        if not path.is_file():
            if folder.is_dir():
                remove_abandoned(path)  # of a run that was killed at its very beginning
            if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
                raise CheckpointError(f"{folder} exists and holds no training; choose another place")
            folder.mkdir(parents=True, exist_ok=True)
            with AtomicPath(path) as part:
                part.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
            return 0
        newest = Shelf(folder / CHECKPOINTS, settings.keep).newest()
        steps = int(newest.name) if newest else 0
        if not resume:
            raise CheckpointError(
                f"{folder} holds a training of {steps} steps: go on with --resume, or choose another place"
            )
        before = read_json(path)
        for name in ("weights", "data", "replay"):
            if before.get(name) != about[name]:
                raise CheckpointError(
                    f"{folder} was begun with {name} {before.get(name)}, not {about[name]}; choose another place"
                )
        for name, value in about["settings"].items():
            old = before.get("settings", {}).get(name)
            if old != value and name not in _MAY_CHANGE:
                raise CheckpointError(f"{folder} was begun with {name} {old}, not {value}; choose another place")
    return steps


def append_log(folder: Path, report: Report | Sample) -> None:
    """Add a line to the log of a run."""
    with (
        system_errors(f"cannot write to {folder}", CheckpointError),
        (folder / LOG).open("a", encoding="utf-8") as file,
    ):
        print(json.dumps(report.as_dict()), file=file)


def read_log(folder: Path) -> list[dict[str, Any]]:
    """Return what the log of a run tells, in order; of steps that were taken again the later time.

    A line that was cut when a run was ended is passed over.
    """
    found: dict[tuple[str, int], dict[str, Any]] = {}
    with system_errors(f"cannot read {folder / LOG}", CheckpointError):
        lines = (folder / LOG).read_text(encoding="utf-8", errors="replace").splitlines()
    for line in lines:
        with suppress(ValueError, TypeError, KeyError):
            told = json.loads(line)
            found[told["event"], told["step"]] = told
    return sorted(found.values(), key=lambda told: told["step"])
