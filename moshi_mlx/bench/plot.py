"""Frame times over a run, as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from moshi_mlx.frames import FRAME_SECONDS
from moshi_mlx.pictures import save_plot


def plot(report: Mapping[str, Any], path: Path) -> None:
    """Draw every frame's time of every run of a report (`frame_ms` kept), and the 80 ms it may take."""
    from matplotlib.figure import Figure

    scene, model, runs = report["scene"], report["model"], report["runs"]
    figure = Figure(figsize=(9, 1 + 2.6 * len(runs)), layout="constrained")
    for axes, run in zip(figure.subplots(len(runs), 1, squeeze=False)[:, 0], runs, strict=True):
        times = np.array(run["frame_ms"])
        interval = FRAME_SECONDS if run["mode"] == "paced" else run["seconds"] / len(times)
        seconds = interval * np.arange(len(times))
        axes.scatter(seconds, times, s=3, linewidths=0, alpha=0.5, color="tab:blue", label="a frame")
        width = max(1, len(times) // 60)  # as many points of the curve as an eye can follow
        starts = np.arange(0, len(times), width)
        for percent, style in ((50, "-"), (99, ":")):
            curve = [np.percentile(times[start : start + width], percent) for start in starts]
            axes.plot(seconds[starts], curve, style, color="black", linewidth=1, label=f"p{percent}")
        axes.axhline(1000 * FRAME_SECONDS, color="tab:red", linewidth=1, label="80 ms")
        axes.set_ylim(0, 1.1 * max(1000 * FRAME_SECONDS, times.max()))
        axes.set_xlabel("seconds")
        axes.set_ylabel("ms a frame")
        axes.set_title(f"{run['mode']}, context {run['context']}, batch {run['batch']}, codec {run['codec']}")
        axes.legend(loc="upper right", ncols=4, fontsize="small")
    figure.suptitle(f"{model['name']} {model['kind']} on {scene['chip']}, MLX {scene['mlx']}", fontsize="medium")
    save_plot(figure, path, dpi=110)
