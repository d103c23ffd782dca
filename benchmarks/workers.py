"""Programs that stay alive and are timed in turn, round by round, because a machine's speed drifts."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


class Worker:
    """One side, alive for the whole run: it reads a number of frames a line, and answers times in ms as JSON."""

    def __init__(
        self, python: str, script: str, *arguments: object, package: Path | None = None, blas: bool = False
    ) -> None:
        """package: the folder to import moshi_mlx from, unless it is the environment's own.

        blas: start it by scripts/with_blas.sh.
        """
        # Both packages are imported as moshi_mlx: each side must find its own environment's.
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        if package:
            environment["PYTHONPATH"] = str(package)
        before = [str(HERE.parent / "scripts" / "with_blas.sh")] if blas else []
        self._process = subprocess.Popen(
            [*before, python, str(HERE / script), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def run(self, frames: int) -> dict[str, list[float]]:
        """Name of what was timed -> its time in each of `frames` frames, ms."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{frames}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"error: a worker ended with status {self._process.wait()}")
        return json.loads(line)

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()


def alternate(
    workers: Mapping[str, Worker], rounds: int, frames: int, warm_up: int
) -> dict[str, dict[str, list[float]]]:
    """Worker -> what was timed -> the median of each round, ms; the workers take turns."""
    for worker in workers.values():
        worker.run(warm_up)
    medians: dict[str, dict[str, list[float]]] = {name: {} for name in workers}
    for _ in range(rounds):
        for name, worker in workers.items():
            for what, times in worker.run(frames).items():
                medians[name].setdefault(what, []).append(statistics.median(times))
    for worker in workers.values():
        worker.close()
    return medians


def speed_up(ours: list[float], theirs: list[float]) -> dict[str, Any]:
    """Times and their ratio, taken round by round: median, and lowest and highest of all rounds."""
    ratios = sorted(b / a for a, b in zip(ours, theirs, strict=True))
    return {
        "ours_ms": round(statistics.median(ours), 2),
        "theirs_ms": round(statistics.median(theirs), 2),
        "speed_up": round(statistics.median(ratios), 2),
        "speed_up_range": [round(ratios[0], 2), round(ratios[-1], 2)],
        # What other programs disturb least: the fastest round of each.
        "speed_up_of_best": round(min(theirs) / min(ours), 2),
    }
