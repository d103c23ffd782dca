"""The plots of commands, drawn with matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from moshi_mlx.errors import ConfigError, system_errors
from moshi_mlx.frames import FRAME_SECONDS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from moshi_mlx.quality.behaviour.summary import Behaviour
    from moshi_mlx.quality.evaluator import Quality


def check_plot(path: Path) -> None:
    """Raise ConfigError if no plot could be drawn at `path` after minutes of measuring."""
    if path.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise ConfigError(f"--plot {path}: a name that ends in .png, .svg or .pdf expected")
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"--plot {path}: there is no folder {path.absolute().parent}")
    if not can_plot():
        raise ConfigError("--plot needs matplotlib, which is not installed: pip install 'moshi-mlx[plots]'")


def can_plot() -> bool:
    """Whether matplotlib is installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        return False
    return True


def plot_frame_times(report: Mapping[str, Any], path: Path) -> None:
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
    _save(figure, path, dpi=110)


def plot_qualities(path: Path, reference: str, qualities: Sequence[Quality]) -> None:
    """Draw KL against bytes per frame, one dot a candidate with its interval."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot(xlabel="MB read per frame", ylabel="KL, nats a step", title=f"against {reference}")
    floor = min((one.kl.value for one in qualities if one.kl.value > 0), default=1e-9) / 3
    for one in qualities:
        # On a logarithmic axis zero has no place: a candidate that changes nothing sits on the lower edge.
        low, value, high = (max(each, floor) for each in (one.kl.low, one.kl.value, one.kl.high))
        megabytes = one.bytes_per_frame / 1e6
        axes.errorbar(megabytes, value, yerr=[[value - low], [max(high - value, 0)]], fmt="o", capsize=3)
        axes.annotate(one.candidate, (megabytes, value), xytext=(6, 4), textcoords="offset points")
    axes.set_yscale("log")
    axes.margins(x=0.15)  # room for the names
    axes.grid(alpha=0.3)
    _save(figure, path, dpi=120)


def plot_behaviours(path: Path, behaviours: Sequence[Behaviour]) -> None:
    """Draw every figure of models side by side with its interval: shares on the left, seconds on the right."""
    from matplotlib.figure import Figure

    from moshi_mlx.quality.behaviour.measures import MEASURES

    units = {measure.name: measure.unit for measure in MEASURES}
    keys = dict.fromkeys(key for one in behaviours for key, each in one.figures.items() if each.samples)
    panels = [
        ("share", [key for key in keys if units[key.measure] == ""]),
        ("seconds", [key for key in keys if units[key.measure] == "s" and key.measure != "first_word"]),
    ]
    height = 1.2 + 0.24 * max(len(keys) for _, keys in panels)
    figure = Figure(figsize=(13, height), layout="constrained")
    for axes, (unit, keys) in zip(figure.subplots(1, 2), panels, strict=True):
        for number, one in enumerate(behaviours):
            known = [(row, one.figures[key].estimate) for row, key in enumerate(keys) if key in one.figures]
            rows = np.array([row for row, _ in known]) + 0.6 * ((number + 0.5) / len(behaviours) - 0.5)
            values, low, high = (np.array([getattr(each, name) for _, each in known]) for name in _EDGES)
            error = np.maximum(0, [values - low, high - values])
            axes.errorbar(values, rows, xerr=error, fmt="o", markersize=4, capsize=2, label=one.name)
        labels = [f"{key.task.replace('_', ' ')}: {key.measure.replace('_', ' ')}" for key in keys]
        more = [", ".join(part for part in (key.statistic, key.condition) if part not in _PLAIN) for key in keys]
        named = [f"{label} ({each})" if each else label for label, each in zip(labels, more, strict=True)]
        axes.set_yticks(range(len(keys)), named, fontsize="small")
        axes.invert_yaxis()
        axes.set_xlabel(unit)
        axes.grid(alpha=0.3)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    _save(figure, path, dpi=110)


_EDGES = ("value", "low", "high")
_PLAIN = ("mean", "clean")  # what goes without saying


def _save(figure: Figure, path: Path, dpi: int) -> None:
    """Write a plot. Raises ConfigError where the system refuses."""
    with system_errors(f"cannot write {path}", ConfigError):
        figure.savefig(path, dpi=dpi)
