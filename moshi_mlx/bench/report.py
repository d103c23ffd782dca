"""Reports for people, and two reports side by side."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from moshi_mlx.errors import ConfigError

PARTS = ("temporal", "depth", "sampling")
SCHEMA = 1  # of the JSON reports; counts changes that break readers

COMPARED = (  # path in a run, heading, is more better
    (("frames_per_second",), "frames/s", True),
    (("frame", "p50_ms"), "frame p50 ms", False),
    (("frame", "p99_ms"), "frame p99 ms", False),
    (("stages", "encode", "p50_ms"), "encode p50 ms", False),
    (("stages", "generate", "p50_ms"), "generate p50 ms", False),
    (("parts", "temporal", "p50_ms"), "temporal p50 ms", False),
    (("parts", "depth", "p50_ms"), "depth p50 ms", False),
    (("stages", "decode", "p50_ms"), "decode p50 ms", False),
    (("stages", "host", "p50_ms"), "host p50 ms", False),
    (("first_frame_ms",), "first frame ms", False),
    (("weight_bytes_per_frame",), "weight bytes", False),
    (("mlx_peak_bytes",), "MLX peak bytes", False),
    (("achieved_GB_per_s",), "GB/s", True),
)


def table(rows: Iterable[Iterable[object]], headings: Iterable[object]) -> str:
    """Columns of text, numbers to the right."""
    lines = [[_text(cell) for cell in row] for row in [headings, *rows]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def counts_text(counts: Mapping[str, Any]) -> str:
    """The report of `bench --counts`."""
    peer = counts["peer"]
    counted = {
        "primitives": "primitives",
        "kernels": "kernels",
        "syncs": "host syncs",
        "traces": f"traces in {counts['frames']} frames after warm-up",
        "growth": "bytes held more after half of them",
    }
    rows = [
        (text, counts[key], "" if not peer else "not measured" if peer[key] is None else peer[key])
        for key, text in counted.items()
    ]
    rows += [
        (f"GB read at context {context}", round((bytes["weights"] + bytes["keys_values"]) / 1e9, 3), "")
        for context, bytes in counts["traffic"].items()
    ]
    kinds = ", ".join(f"{count} {name}" for name, count in list(counts["kinds"].items())[:12])
    return "\n".join(
        [
            f"one steady frame of {counts['shape']}, {counts['kind']}, as a GPU backend runs it",
            table(rows, ("", "here", "moshi_mlx 0.3.0" if peer else "")),
            f"most frequent: {kinds}",
        ]
    )


def run_text(report: Mapping[str, Any]) -> str:
    """The report of a measurement: the scene, a table with a column per run, the verdicts."""
    scene, model = report["scene"], report["model"]
    tokens = model["tokens_per_frame"]
    rows = [
        ("frames/s (12.5 needed)", *_each(report, "frames_per_second")),
        (f"tokens/s (1 text + {tokens - 1} audio a frame)", *_each(report, "tokens_per_second")),
        ("real-time factor", *_each(report, "real_time_factor")),
    ]
    for stage in ("encode", "generate", "host", "decode"):
        label = "  of which host" if stage == "host" else stage
        rows.append((f"{label} ms, p50 / p95 / p99 / max", *_spreads(report, "stages", stage)))
        if stage == "host":
            rows += [(f"  {part} ms *", *_spreads(report, "parts", part)) for part in PARTS]
    rows += [
        ("frame ms", *_spreads(report, "frame")),
        ("latency ms", *_spreads(report, "latency")),
        ("warm-up s (compiles)", *_each(report, "warm_up_seconds")),
        ("first frame after it: generate ms", *_each(report, "first_frame_ms")),
        ("frames over 80 ms", *_each(report, "deadline_misses")),
        ("GB read a frame", *(round(_read(run) / 1e9, 3) for run in report["runs"])),
        ("GB/s achieved", *_each(report, "achieved_GB_per_s")),
        ("share of the chip's bandwidth", *(run["share_of_bandwidth"] or "unknown" for run in report["runs"])),
        ("MLX memory, active / peak GB", *(_memory(run) for run in report["runs"])),
        ("resident peak GB", *(round(run["resident_peak_bytes"] / 1e9, 3) for run in report["runs"])),
        ("p99 within 80 ms", *("PASS" if run["passed"] else "FAIL" for run in report["runs"])),
    ]
    headings = [f"{run['mode']} @{run['context']}" for run in report["runs"]]
    first = report["runs"][0]
    return "\n".join(
        [
            f"{scene['chip']}, {scene['memory_GiB']} GiB, {scene['os']}, MLX {scene['mlx']} on {scene['device']}",
            f"{model['name']} {model['kind']}, {model['parameter_bytes'] / 1e9:.3f} GB of weights "
            f"ready in {model['ready_seconds']} s; batch {first['batch']}, codec {first['codec']}, "
            f"{first['frames']} frames after {first['frames_before']} that do not count",
            table(rows, ("", *headings)),
            "* each waited for, in further frames; depth is with its draws, sampling the draws alone",
            *_minutes(report["runs"]),
        ]
    )


def read_report(path: Path) -> dict[str, Any]:
    """A report that `bench --json` printed. Raises ConfigError for anything else."""
    try:
        report = json.loads(path.read_text())
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON: {error}; write it with `moshi-mlx bench --json`") from error
    if not isinstance(report, dict) or report.get("schema") != SCHEMA or not _is_timed(report):
        raise ConfigError(f"{path} is no report of times; write it with `moshi-mlx bench --json`")
    return report


def compare_text(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Runs that both reports have, B against A: values and what factor B is better by (above 1: better).

    Raises ConfigError when no run of one is in the other.
    """
    there = {_run_key(run): run for run in after["runs"]}
    parts = [f"A: {_title(before)}", f"B: {_title(after)}"]
    both = [(run, there[_run_key(run)]) for run in before["runs"] if _run_key(run) in there]
    if not both:
        raise ConfigError("the reports have no run in common: mode, context, batch and codec must agree")
    for old, new in both:
        rows = []
        for path, heading, more_is_better in COMPARED:
            a, b = _found(old, path), _found(new, path)
            ratio = (b / a if more_is_better else a / b) if a and b else None
            rows.append((heading, a, b, "" if ratio is None else f"{ratio:.2f}x"))
        title = f"{old['mode']} @{old['context']}, batch {old['batch']}, codec {old['codec']}"
        parts += ["", table(rows, (title, "A", "B", "B better by"))]
    return "\n".join(parts)


def _is_timed(report: Mapping[str, Any]) -> bool:
    try:
        _title(report)
        return bool([_run_key(run) for run in report["runs"]])
    except (KeyError, TypeError):
        return False


def _run_key(run: Mapping[str, Any]) -> tuple[Any, ...]:
    return run["mode"], run["context"], run["batch"], run["codec"]


def _title(report: Mapping[str, Any]) -> str:
    scene, model = report["scene"], report["model"]
    return f"{model['name']} {model['kind']} on {scene['chip']}, MLX {scene['mlx']}, commit {scene['commit']}"


def _minutes(runs: Iterable[Mapping[str, Any]]) -> list[str]:
    """How long runs went, minute by minute."""
    return [
        "\n"
        + table(
            [(index + 1, *minute.values()) for index, minute in enumerate(run["series"])],
            ("minute", "p50 ms", "p95", "p99", "max"),
        )
        for run in runs
        if len(run["series"]) > 1
    ]


def _each(report: Mapping[str, Any], name: str) -> list[Any]:
    return [run[name] for run in report["runs"]]


def _spreads(report: Mapping[str, Any], *path: str) -> list[str]:
    return [" / ".join(f"{value:.1f}" for value in _at(run, path).values()) for run in report["runs"]]


def _found(run: Mapping[str, Any], path: Iterable[str]) -> Any:
    """As `_at`; None where a report of an earlier version has no such figure."""
    try:
        return _at(run, path)
    except KeyError:
        return None


def _at(run: Mapping[str, Any], path: Iterable[str]) -> Any:
    value: Any = run
    for name in path:
        value = value[name]
    return value


def _read(run: Mapping[str, Any]) -> float:
    return run["weight_bytes_per_frame"] + run["kv_bytes_per_frame"]


def _memory(run: Mapping[str, Any]) -> str:
    return f"{run['mlx_active_bytes'] / 1e9:.3f} / {run['mlx_peak_bytes'] / 1e9:.3f}"


def _text(cell: object) -> str:
    return f"{cell:g}" if isinstance(cell, float) and abs(cell) < 1e6 else str(cell)
