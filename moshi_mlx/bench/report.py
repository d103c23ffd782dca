"""Reports of measurements as files: read again, and two of them matched run by run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from moshi_mlx.errors import ConfigError
from moshi_mlx.models.config_reader import read_json

SCHEMA = 1  # of the JSON reports; counts changes that break readers


def read_report(path: Path) -> dict[str, Any]:
    """Read a report that `bench --json` printed. Raises ConfigError for anything else."""
    remedy = "write it with `moshi-mlx bench --json`"
    report = read_json(path, error=ConfigError, remedy=remedy)
    if report.get("schema") != SCHEMA or not _is_timed(report):
        raise ConfigError(f"{path} is not a report of times; {remedy}")
    return report


def common_runs(
    before: Mapping[str, Any], after: Mapping[str, Any]
) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Pair the runs that measured the same in both reports. Raises ConfigError when there are none."""
    there = {_measured(run): run for run in after["runs"]}
    pairs = [(run, there[_measured(run)]) for run in before["runs"] if _measured(run) in there]
    if not pairs:
        raise ConfigError("the reports have no run in common: mode, context, batch and codec must agree")
    return pairs


def title(report: Mapping[str, Any]) -> str:
    """What was measured where, in one line."""
    scene, model = report["scene"], report["model"]
    return f"{model['name']} {model['kind']} on {scene['chip']}, MLX {scene['mlx']}, commit {scene['commit']}"


def _is_timed(report: Mapping[str, Any]) -> bool:
    try:
        title(report)
        return bool([_measured(run) for run in report["runs"]])
    except (KeyError, TypeError):
        return False


def _measured(run: Mapping[str, Any]) -> tuple[Any, ...]:
    return run["mode"], run["context"], run["batch"], run["codec"]
