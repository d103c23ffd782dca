"""A training by the package's own trainer, which goes on where it was stopped and tells how it goes."""

import time
from pathlib import Path

from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.finetune.batches import Data
from moshi_mlx.finetune.folder import append_log, open_folder
from moshi_mlx.finetune.run import Run
from moshi_mlx.finetune.settings import Settings

LOG_EVERY = 20  # steps


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
