"""Reports of measurements, and gates on them."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gates import COUNT_GATES, SPEED_GATES, missed
from moshi_mlx.bench.report import read_report
from moshi_mlx.bench.scene import scene
from moshi_mlx.bench.times import times_report
from moshi_mlx.errors import ConfigError


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    return times_report(shape_name="moshi-tiny", kind="f32", frames=3)


def test_a_sustained_run_is_paced_for_its_time() -> None:
    report = times_report(shape_name="moshi-tiny", kind="f32", sustained=0.4)
    assert [(run["mode"], run["frames"]) for run in report["runs"]] == [("paced", 5)]


def test_the_scene_names_machine_versions_and_commit(report: dict[str, Any]) -> None:
    where = report["scene"]
    assert where == {**scene(), **{name: where[name] for name in ("time", "load_average")}}
    assert all(where[name] for name in ("chip", "memory_GiB", "os", "mlx", "moshi_mlx", "command"))
    assert report["model"]["parameter_bytes"] > 0


@pytest.mark.parametrize(
    "text",
    [
        "{", "[]", "{}", '{"schema": 99, "runs": []}', '{"schema": 1, "runs": []}', '{"schema": 1, "runs": 3}',
        '{"schema": 1, "scene": {}, "model": {}, "runs": [{}]}',
    ],
)  # fmt: skip
def test_only_reports_are_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ConfigError, match=r"a\.json"):
        read_report(tmp_path / "a.json")


def test_a_report_survives_its_file(tmp_path: Path, report: dict[str, Any]) -> None:
    (tmp_path / "a.json").write_text(json.dumps(report))
    assert read_report(tmp_path / "a.json") == report


def test_a_gate_that_is_missed_is_named() -> None:
    good = {"kernels": 900, "primitives": 1450, "plain_kernels": 1005, "plain_primitives": 1600}
    good |= {"syncs": 1, "traces": 0, "growth": 0}
    assert not missed(good, COUNT_GATES)
    assert missed({**good, "syncs": 2}, COUNT_GATES) == ["host syncs per frame: 2, the bar is <= 1"]
    assert len(missed({"dense": 2.19, "q4": 1.6, "host": 3}, SPEED_GATES)) == 1
