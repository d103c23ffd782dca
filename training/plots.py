"""Curves of a training run as PNG, from its logs.

`python -m training.plots FOLDER RESULTS_FOLDER`
"""

import csv
import json
import sys
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from moshi_mlx.finetune.folder import LOG
from training.model_folder import LM_FOLDER

TOGETHER = 20  # steps in a point of a curve

_PANELS = {
    "codec": (("mel",), ("heard",), ("commitment",)),
    "lm": (("text", "semantic", "acoustic"), ("norm",)),
}
_NAMES = {
    "mel": "log-mel distance (nepers)", "heard": "phones right (share)", "commitment": "commitment loss",
    "text": "cross entropy (nats)", "norm": "gradient",
}  # fmt: skip


def plot(folder: Path, results: Path) -> None:
    """Draw every log that there is."""
    results.mkdir(parents=True, exist_ok=True)
    for name, panels in _PANELS.items():
        rows = _steps(folder) if name == "lm" else _lines(folder / f"{name}.csv")
        if not rows:
            continue
        steps = [int(row["step"]) for row in rows]
        figure, axes = plt.subplots(1, len(panels), figsize=(4.5 * len(panels), 3), layout="constrained")
        for axis, keys in zip(axes, panels, strict=True):
            for key in keys:
                points = [
                    (step, float(row[key])) for step, row in zip(steps, rows, strict=True) if float(row[key])
                ]
                axis.plot(*zip(*points, strict=True), label=key, linewidth=1)
            axis.set_xlabel("step")
            axis.set_ylabel(_NAMES[keys[0]])
            axis.grid(alpha=0.3)
            if len(keys) > 1:
                axis.legend()
        figure.savefig(results / f"{name}.png", dpi=80)
        plt.close(figure)


def _lines(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    with path.open() as file:
        return list(csv.DictReader(file))


def _steps(folder: Path) -> list[dict[str, Any]]:
    """The language model's steps, the means of TOGETHER each."""
    path = folder / LM_FOLDER / LOG
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    groups = [lines[start : start + TOGETHER] for start in range(0, len(lines), TOGETHER)]
    keys = [key for keys in _PANELS["lm"] for key in keys]
    return [
        {"step": group[-1]["step"], **{key: np.mean([line[key] for line in group]) for key in keys}}
        for group in groups
    ]


if __name__ == "__main__":
    plot(Path(sys.argv[1]), Path(sys.argv[2]))
