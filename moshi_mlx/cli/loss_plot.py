"""The losses of a training as a picture, drawn with matplotlib."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from moshi_mlx.cli.plots import can_plot
from moshi_mlx.errors import ConfigError, MoshiError
from moshi_mlx.finetune.folder import read_log
from moshi_mlx.finetune.loss import PARTS
from moshi_mlx.weights.atomic import AtomicPath

LOSSES = "losses.png"
_CURVES = {"step": ("steps", "tab:blue"), "test": ("test", "tab:red"), "replay": ("test of replay", "tab:green")}


class LossPlot:
    """The losses of a training as a picture in its folder, drawn again as it goes on.

    tell: gets one note where it cannot be drawn.
    """

    def __init__(self, folder: Path, tell: Callable[[str], None]) -> None:
        self._folder, self._wanted, self._tell = folder, can_plot(), tell
        self._checkpoint: int | None = None
        self._rest = -math.inf  # until when the latest picture is good enough
        if not self._wanted:
            tell(f"{folder / LOSSES} needs matplotlib, which is not installed: pip install 'moshi-mlx[plots]'")

    def update(self, checkpoint: int | None, last: bool = False) -> None:
        """Draw what the log says if there is a new checkpoint, but for at most a twentieth of the time."""
        began = time.monotonic()
        if not self._wanted or (not last and (checkpoint == self._checkpoint or began < self._rest)):
            return
        try:
            plot_losses(self._folder / LOSSES, read_log(self._folder))
        except MoshiError as error:  # a picture is not worth a training
            self._tell(str(error))
            self._wanted = False
        self._checkpoint = checkpoint
        end = time.monotonic()
        self._rest = end + 20 * (end - began)


def plot_losses(path: Path, log: Sequence[Mapping[str, Any]]) -> None:
    """Draw the loss and its parts: of steps, dots and their mean; of tests, lines. log: from `read_log`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6), layout="constrained")
    for axes, part in zip(figure.subplots(2, 2).flat, ("loss", *PARTS), strict=True):
        for kind, (name, color) in _CURVES.items():
            points = [(told["step"], told[part]) for told in log if told["event"] == kind]
            if not points:
                continue
            steps, losses = np.array(points, float).T
            if kind != "step":
                axes.plot(steps, losses, "o-", color=color, markersize=3, linewidth=1, label=name)
                continue
            axes.scatter(steps, losses, s=4, linewidths=0, alpha=0.3, color=color)
            width = max(1, len(losses) // 20)
            mean = np.convolve(losses, np.ones(width) / width, "valid")
            axes.plot(steps[width - 1 :], mean, color=color, linewidth=1, label=f"{name}, mean of {width}")
        axes.set_title("text + audio" if part == "loss" else part, fontsize="medium")
        axes.set_xlabel("step")
        axes.set_ylabel("nats")
        axes.grid(alpha=0.3)
        if axes.has_data():
            axes.legend(fontsize="small")
    with AtomicPath(path, ConfigError) as place:
        figure.savefig(place, dpi=110, format="png")
