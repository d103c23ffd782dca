"""Reports on paper: tables, comparison, gates."""

import copy
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gates import COUNT_GATES, SPEED_GATES, missed
from moshi_mlx.bench.report import read_report
from moshi_mlx.bench.scene import scene
from moshi_mlx.bench.times import times_report
from moshi_mlx.cli.bench_report import compare_text, run_text
from moshi_mlx.cli.plots import check_plot, plot_frame_times
from moshi_mlx.cli.tables import table
from moshi_mlx.errors import ConfigError, MoshiError


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    return times_report(shape_name="moshi-tiny", kind="f32", frames=3)


def test_the_report_has_a_row_for_all_that_was_measured(report: dict[str, Any]) -> None:
    text = run_text(report)
    for part in (
        "frames/s",
        "1 text + 8 audio",
        "generate ms",
        "of which host",
        "temporal ms *",
        "GB/s achieved",
        "PASS",
        "burst @0",
    ):
        assert part in text
    assert f"{report['runs'][0]['frames_per_second']:g}" in text


def test_a_sustained_run_is_paced_for_its_time() -> None:
    report = times_report(shape_name="moshi-tiny", kind="f32", sustained=0.4)
    assert [(run["mode"], run["frames"]) for run in report["runs"]] == [("paced", 5)]
    run = report["runs"][0]
    run["series"] = [run["frame"]] * 2
    assert run_text(report).splitlines()[-3].split()[:2] == ["minute", "p50"]


def test_a_run_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = times_report(shape_name="moshi-tiny", kind="f32", frames=3, contexts=[0, 5], keep=True)
    check_plot(tmp_path / "run.svg")
    plot_frame_times(report, tmp_path / "run.svg")
    picture = (tmp_path / "run.svg").read_text()
    assert picture.count("<use ") >= 2 * 3, "a point for each frame"
    for wrong, problem in ((tmp_path / "run.txt", ".png"), (tmp_path / "no" / "run.png", "there is no folder")):
        with pytest.raises(ConfigError, match=problem):
            check_plot(wrong)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MoshiError, match=r"moshi-mlx\[plots\]"):
        check_plot(tmp_path / "run.png")


def test_reports_of_an_earlier_version_can_be_compared(report: dict[str, Any]) -> None:
    older = copy.deepcopy(report)
    del older["runs"][0]["parts"]
    line = next(line for line in compare_text(older, report).splitlines() if line.startswith("temporal"))
    assert line.split()[3] == "None"


def test_the_scene_names_machine_versions_and_commit(report: dict[str, Any]) -> None:
    where = report["scene"]
    assert where == {**scene(), **{name: where[name] for name in ("time", "load_average")}}
    assert all(where[name] for name in ("chip", "memory_GiB", "os", "mlx", "moshi_mlx", "command"))
    assert report["model"]["parameter_bytes"] > 0


def test_comparison_says_by_what_factor_b_is_better(report: dict[str, Any]) -> None:
    faster = copy.deepcopy(report)
    run = faster["runs"][0]
    run["frames_per_second"] *= 2
    run["frame"]["p50_ms"] /= 4
    rows = [line.split("  ") for line in compare_text(report, faster).splitlines()]
    factors = {row[0]: row[-1].strip() for row in rows}
    assert factors["frames/s"] == "2.00x"
    assert factors["frame p50 ms"] == "4.00x"
    assert factors["frame p99 ms"] == "1.00x"


def test_runs_of_different_kinds_are_not_compared(report: dict[str, Any]) -> None:
    other = copy.deepcopy(report)
    other["runs"][0]["batch"] = 2
    with pytest.raises(ConfigError, match="no run in common"):
        compare_text(report, other)


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
    good = {"kernels": 1050, "primitives": 1900, "syncs": 1, "traces": 0, "growth": 0}
    assert not missed(good, COUNT_GATES)
    assert missed({**good, "syncs": 2}, COUNT_GATES) == ["host syncs per frame: 2, the bar is <= 1"]
    assert len(missed({"dense": 2.19, "q4": 1.6, "host": 3}, SPEED_GATES)) == 1


def test_columns_line_up() -> None:
    assert table([("a", 1.5), ("bcd", 20)], ("", "x")).splitlines() == ["       x", "a    1.5", "bcd   20"]
    assert table([("[bold]:smile:", "x" * 200)], ("", "")).splitlines()[1] == "[bold]:smile:  " + "x" * 200
