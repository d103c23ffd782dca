"""How the losses of a training fell, as a table."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from moshi_mlx.finetune.folder import read_log

TOGETHER = 20  # steps in a line


def write_curve(run: Path, parts: Sequence[str], path: Path) -> None:
    """Write the losses of `parts` of a run's log, the mean of every TOGETHER steps a line."""
    steps = [one for one in read_log(run) if one["event"] == "step"]
    lines = [",".join(["step", *parts])]
    for first in range(0, len(steps) - TOGETHER + 1, TOGETHER):
        some = steps[first : first + TOGETHER]
        means = (f"{np.mean([one[name] for one in some]):.4f}" for name in parts)
        lines.append(",".join([str(some[-1]["step"]), *means]))
    path.write_text("\n".join(lines) + "\n")
