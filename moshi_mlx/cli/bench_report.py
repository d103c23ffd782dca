"""The reports of `moshi-mlx bench` for people: counts, times, and two reports side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from moshi_mlx.bench.report import common_runs, title
from moshi_mlx.cli.tables import table

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
SPREAD = ("p50_ms", "p95_ms", "p99_ms", "max_ms")


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
    scene, model, runs = report["scene"], report["model"], report["runs"]

    def each(name: str) -> list[Any]:
        return [run[name] for run in runs]

    def spreads(*path: str) -> list[str]:
        return [" / ".join(f"{_at(run, (*path, name)):.1f}" for name in SPREAD) for run in runs]

    def gigabytes(*names: str) -> list[float]:
        return [round(sum(run[name] for name in names) / 1e9, 3) for run in runs]

    rows = [
        ("frames/s (12.5 needed)", *each("frames_per_second")),
        (f"tokens/s (1 text + {model['tokens_per_frame'] - 1} audio a frame)", *each("tokens_per_second")),
        ("real-time factor", *each("real_time_factor")),
        ("encode ms, p50 / p95 / p99 / max", *spreads("stages", "encode")),
        ("generate ms, p50 / p95 / p99 / max", *spreads("stages", "generate")),
        ("  of which host ms, p50 / p95 / p99 / max", *spreads("stages", "host")),
        *((f"  {part} ms *", *spreads("parts", part)) for part in runs[0]["parts"]),
        ("decode ms, p50 / p95 / p99 / max", *spreads("stages", "decode")),
        ("frame ms", *spreads("frame")),
        ("latency ms", *spreads("latency")),
        ("warm-up s (compiles)", *each("warm_up_seconds")),
        ("first frame after it: generate ms", *each("first_frame_ms")),
        ("frames over 80 ms", *each("deadline_misses")),
        ("GB read a frame", *gigabytes("weight_bytes_per_frame", "kv_bytes_per_frame")),
        ("GB/s achieved", *each("achieved_GB_per_s")),
        ("share of the chip's bandwidth", *(run["share_of_bandwidth"] or "unknown" for run in runs)),
        ("MLX memory, active GB", *gigabytes("mlx_active_bytes")),
        ("MLX memory, peak GB", *gigabytes("mlx_peak_bytes")),
        ("resident peak GB", *gigabytes("resident_peak_bytes")),
        ("p99 within 80 ms", *("PASS" if run["passed"] else "FAIL" for run in runs)),
    ]
    first = runs[0]
    return "\n".join(
        [
            f"{scene['chip']}, {scene['memory_GiB']} GiB, {scene['os']}, MLX {scene['mlx']} on {scene['device']}",
            f"{model['name']} {model['kind']}, {model['parameter_bytes'] / 1e9:.3f} GB of weights "
            f"ready in {model['ready_seconds']} s; batch {first['batch']}, codec {first['codec']}, "
            f"{first['frames']} frames after {first['frames_before']} that do not count",
            table(rows, ("", *(f"{run['mode']} @{run['context']}" for run in runs))),
            "* each waited for, in further frames; depth is with its draws, sampling the draws alone",
            *(_minutes(run["series"]) for run in runs if len(run["series"]) > 1),
        ]
    )


def compare_text(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Runs that both reports have, B against A: values and what factor B is better by (above 1: better).

    Raises ConfigError when no run of one is in the other.
    """
    parts = [f"A: {title(before)}", f"B: {title(after)}"]
    for old, new in common_runs(before, after):
        rows = []
        for path, heading, more_is_better in COMPARED:
            a, b = _at(old, path), _at(new, path)
            ratio = (b / a if more_is_better else a / b) if a and b else None
            rows.append((heading, a, b, "" if ratio is None else f"{ratio:.2f}x"))
        heading = f"{old['mode']} @{old['context']}, batch {old['batch']}, codec {old['codec']}"
        parts += ["", table(rows, (heading, "A", "B", "B better by"))]
    return "\n".join(parts)


def _minutes(series: Iterable[Mapping[str, float]]) -> str:
    """How a long run went, minute by minute."""
    rows = [(index + 1, *(minute[name] for name in SPREAD)) for index, minute in enumerate(series)]
    return "\n" + table(rows, ("minute", "p50 ms", "p95", "p99", "max"))


def _at(run: Mapping[str, Any], path: Iterable[str]) -> Any:
    """The figure at a path; None where a report of an earlier version has no such figure."""
    value: Any = run
    for name in path:
        value = value.get(name) if value else None
    return value
