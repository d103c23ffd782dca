"""A training by the package's own trainer, which goes on where it was stopped and tells how it goes."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.finetune.batches import Data
from moshi_mlx.finetune.folder import append_log, open_folder
from moshi_mlx.finetune.run import Run
from moshi_mlx.finetune.settings import Settings
from moshi_mlx.finetune.start import write_start
from training.curves import write_curve
from training.model_folder import LM_FOLDER, MODEL, codec_at, write_around

LOG_EVERY = 20  # steps


def begun(start: Path, config: Mapping[str, Any], tokenizer: bytes, seed: int) -> Checkpoint:
    """The untrained model in a folder, made if it is not there; its codec is that of the package."""
    if not (start / MODEL).exists():
        start.mkdir(parents=True, exist_ok=True)
        write_start(start / MODEL, config, seed)
        write_around(start, config, tokenizer, codec_at())
    return Checkpoint.resolve(start)


def with_steps(settings: Settings, arguments: Sequence[str]) -> Settings:
    """The settings, with as many steps as the first argument says, if there is one."""
    return replace(settings, steps=int(arguments[0])) if arguments else settings


def command(
    train: Callable[[Path, Settings], None],
    export: Callable[[Path, Path], None],
    settings: Settings,
    parts: Sequence[str],
    arguments: Sequence[str],
) -> None:
    """FOLDER [STEPS], FOLDER export TARGET, or FOLDER curve TABLE.csv. parts: of the loss."""
    folder, *rest = arguments
    if rest[:1] == ["export"]:
        export(Path(folder), Path(rest[1]))
    elif rest[:1] == ["curve"]:
        write_curve(Path(folder) / LM_FOLDER, parts, Path(rest[1]))
    else:
        train(Path(folder), with_steps(settings, rest))


def learn(checkpoint: Checkpoint, out: Path, what: str, settings: Settings, data: Data) -> None:
    """Take the steps that are left of a training that began with `checkpoint`; what is learned is in `out`.

    what: the data, as the folder's `run.json` names it.
    """
    open_folder(out, checkpoint, what, settings, resume=(out / "run.json").exists())
    began = time.time()
    for report in Run(checkpoint, out, settings, data).train():
        append_log(out, report)
        if report.step % LOG_EVERY == 0:
            parts = {name: round(value, 4) for name, value in report.losses.parts.items()}
            print({"step": report.step, "seconds": round(time.time() - began, 1), **parts}, flush=True)
