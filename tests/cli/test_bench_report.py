"""The reports of bench on paper: tables, comparison, plots."""

import copy
import sys
from pathlib import Path
from typing import Any

import pytest

from moshi_mlx.bench.times import times_report
from moshi_mlx.cli.bench_report import compare_text, run_text, verdict
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
        "burst @0",
    ):
        assert part in text
    assert ("PASS" in text) != ("FAIL" in text), "whether it keeps up depends on the machine"
    assert f"{report['runs'][0]['frames_per_second']:g}" in text


@pytest.mark.slow
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


def test_columns_line_up() -> None:
    assert table([("a", 1.5), ("bcd", 20)], ("", "x")).splitlines() == ["       x", "a    1.5", "bcd   20"]
    assert table([("[bold]:smile:", "x" * 200)], ("", "")).splitlines()[1] == "[bold]:smile:  " + "x" * 200


def test_others_at_work_are_said_only_when_they_are(report: dict[str, Any]) -> None:
    loads = {load: {**report, "scene": {**report["scene"], "load_average": load}} for load in (0.4, 7.5)}
    assert ["other programs were at work" in run_text(loads[load]) for load in loads] == [False, True]


def test_the_verdict_names_the_worst_run(report: dict[str, Any]) -> None:
    runs = [copy.deepcopy(report["runs"][0]) for _ in range(2)]
    runs[0].update(repeats=[{"p50_ms": 20.0, "p99_ms": 30.0}, {"p50_ms": 21.0, "p99_ms": 99.5}], passed=False)
    runs[1].update(context=64, repeats=[{"p50_ms": 20.0, "p99_ms": 70.0}] * 2, passed=True)
    assert (
        verdict({**report, "runs": runs})
        == "FAIL: at worst (burst @0) 99 % of the frames took up to 99.5 of 80 ms"
    )
    older = {key: value for key, value in runs[1].items() if key != "repeats"}
    older["frame"] = {**older["frame"], "p99_ms": 12.0}
    assert verdict({**report, "runs": [older]}).startswith(
        "PASS: at worst (burst @64) 99 % of the frames took up to 12.0"
    )


def test_a_long_run_is_told_minute_by_minute(report: dict[str, Any]) -> None:
    long = copy.deepcopy(report)
    long["runs"][0]["series"] = [long["runs"][0]["frame"]] * 2
    assert run_text(long).splitlines()[-4].split()[:2] == ["minute", "p50"]
