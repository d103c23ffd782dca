"""`moshi-mlx bench --share`: speed and behaviour of a model on this machine, and whether MLX is right."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from moshi_mlx.cli.eval_report import as_dict
from moshi_mlx.cli.eval_run import Evaluation, answers_in
from moshi_mlx.cli.mlx_check import checked
from moshi_mlx.cli.tables import markdown
from moshi_mlx.doctor.check.report import CheckReport
from moshi_mlx.errors import ConfigError, MoshiError
from moshi_mlx.quality.behaviour.builtin import RECIPE, builtin_scenes
from moshi_mlx.quality.behaviour.summary import Behaviour, Key
from moshi_mlx.quality.behaviour.synthesis import check_synthesizers, synthesizer_versions
from moshi_mlx.quality.behaviour.systems import parse_system
from moshi_mlx.quality.behaviour.voice import VoiceDetector
from moshi_mlx.version import __version__
from moshi_mlx.weights.atomic import AtomicPath
from moshi_mlx.weights.progress import Progress

HEADINGS = (
    "machine", "memory", "MLX", "model", "frames/s", "frame p99, window empty / full", "peak",
    "speaks in pauses", "takes turns", "after", "answers interruptions", "right answers", "breaks silence",
    "check", "version, date",
)  # fmt: skip
"""Of the row, which docs/benchmarks.md explains."""


@dataclass(frozen=True)
class Shared:
    """What was found out about one model on one machine.

    speed: a report of `bench`. behaviour: in the builtin scenes. check: of `doctor --check`.
    """

    speed: Mapping[str, Any]
    behaviour: Behaviour
    check: CheckReport

    def as_json(self) -> dict[str, Any]:
        """Return all of it, without names of files or folders."""
        scene = {name: value for name, value in self.speed["scene"].items() if name != "command"}
        return {
            "schema": 1,
            "moshi_mlx": __version__,
            "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "scenes": {"recipe": RECIPE, "synthesizers": synthesizer_versions()},
            "speed": {**self.speed, "scene": scene},
            "behaviour": as_dict([self.behaviour]),
            "check": self.check.as_json(),
            "row": self.row(),
        }

    def row(self) -> list[str]:
        """Return the cells under HEADINGS."""
        scene, runs = self.speed["scene"], self.speed["runs"]
        first, last = runs[0], runs[-1]
        frames = f"{first['frame']['p99_ms']:.0f} / {last['frame']['p99_ms']:.0f} ms"
        return [
            scene["chip"],
            f"{scene['memory_GiB']:.0f} GiB",
            str(scene["mlx"]),
            self.behaviour.name,
            f"{last['frames_per_second']:.1f}",
            frames,
            f"{max(run['mlx_peak_bytes'] for run in runs) / 1e9:.1f} GB",
            self._share("pause_handling"),
            self._share("smooth_turn_taking"),
            self._seconds("smooth_turn_taking"),
            self._share("user_interruption"),
            self._share("smooth_turn_taking", "accuracy"),
            self._share("silence"),
            "right" if self.check.ok else "wrong",
            f"{__version__}, {scene['time'][:10]}",
        ]

    def _share(self, task: str, measure: str = "takeover") -> str:
        figure = self.behaviour.figures.get(Key(task, "clean", measure, "mean"))
        return f"{figure.estimate.value:.0%}" if figure and figure.samples else "-"

    def _seconds(self, task: str) -> str:
        figure = self.behaviour.figures.get(Key(task, "clean", "latency", "median"))
        return f"{figure.estimate.value:.2f} s" if figure and figure.samples else "-"


def check_before(model: str | None) -> VoiceDetector:
    """Return what hears answers, or raise what would end a sharing after minutes, as that there is no model."""
    if model is None:
        raise ConfigError("--share measures a model: give one with --model")
    check_synthesizers()
    return VoiceDetector()


def measured(
    model: str,
    detector: VoiceDetector,
    speed: Mapping[str, Any],
    answers: Path,
    codec: str,
    offline: bool,
    progress: Progress = None,
) -> Shared:
    """Let a model behave in the builtin scenes, and check the machine. speed: what `bench` has reported of it.

    detector: from `check_before`. answers: a folder for what the model says; what it holds is not said again.
    """
    scenes = builtin_scenes(progress=progress)
    bar = progress if isinstance(progress, bool) else None
    evaluation = Evaluation(scenes, answers, 0, "monologue", None, codec, 8, offline, bar)
    (root,) = evaluation.play([parse_system(model)]).values()
    samples, _ = answers_in(root, detector, scenes)
    name = Path(model).name if Path(model).exists() else model  # nobody wants to know where it lies
    speed = {**speed, "model": {**speed["model"], "name": name}}
    return Shared(speed, evaluation.summed_up(name, samples), checked())


def write_shared(path: Path, shared: Shared) -> None:
    """Write the file. Raises MoshiError where the system refuses."""
    with AtomicPath(path, MoshiError) as part:
        part.write_text(json.dumps(shared.as_json(), indent=1, allow_nan=False) + "\n", encoding="utf-8")


def row_text(shared: Shared) -> str:
    """Return the row with its headings, in Markdown."""
    return markdown([shared.row()], HEADINGS)
