"""The reports of `moshi-mlx bench` for people: counts, times, and two reports side by side."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from typing import Any

from moshi_mlx.bench.report import common_runs, title
from moshi_mlx.cli.tables import markdown, table
from moshi_mlx.frames import FRAME_RATE

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
PARTS_NOTE = "* each waited for, in further frames; depth is with its draws, sampling the draws alone"
BUSY = 1.5  # load average above which times are doubtful
SPREAD = ("p50_ms", "p95_ms", "p99_ms", "max_ms")


def counts_text(counts: Mapping[str, Any]) -> str:
    """The report of `bench --counts`."""
    peer = counts["peer"]
    counted = {
        "primitives": "primitives",
        "kernels": "kernels",
        "plain_primitives": "primitives without our own kernels",
        "plain_kernels": "kernels without our own",
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
    """The report of a measurement: the scene, a table with a column per run, the verdict."""
    return "\n".join(
        [
            *_head(report),
            table(_rows(report), ("", *_headings(report))),
            PARTS_NOTE,
            *(_minutes(run["series"]) for run in report["runs"] if len(run["series"]) > 1),
            verdict(report),
        ]
    )


def markdown_text(report: Mapping[str, Any]) -> str:
    """The same in Markdown."""
    rows = markdown(_rows(report), ["", *_headings(report)])
    return "\n\n".join(["  \n".join(_head(report)), rows, PARTS_NOTE.replace("*", "\\*"), verdict(report)])


def csv_text(report: Mapping[str, Any]) -> str:
    """One line a run, a heading line first: what was measured, and the figures that `--compare` compares."""
    scene, model = report["scene"], report["model"]
    same = {name: scene[name] for name in ("chip", "device", "mlx", "commit", "load_average", "time")}
    same = {"model": model["name"], "kind": model["kind"], **same}
    lines = [
        {
            **same,
            **{name: run[name] for name in ("mode", "context", "batch", "codec", "frames")},
            **{" ".join(path): _at(run, path) for path, _, _ in COMPARED},
            "passed": run["passed"],
        }
        for run in report["runs"]
    ]
    text = io.StringIO()
    writer = csv.DictWriter(text, lines[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue().rstrip("\n")


def verdict(report: Mapping[str, Any]) -> str:
    """One line: whether the worst of all runs keeps time."""
    worst = max(report["runs"], key=lambda run: max(one["p99_ms"] for one in _repeats(run)))
    took = max(one["p99_ms"] for one in _repeats(worst))
    where = f"{worst['mode']} @{worst['context']}"
    passed = all(run["passed"] for run in report["runs"])
    return f"{'PASS' if passed else 'FAIL'}: at worst ({where}) 99 % of the frames took up to {took:.1f} of 80 ms"


def _repeats(run: Mapping[str, Any]) -> list[Mapping[str, float]]:
    return run.get("repeats") or [run["frame"]]


def _head(report: Mapping[str, Any]) -> list[str]:
    """The scene and what was measured in it, in lines."""
    scene, model, first = report["scene"], report["model"], report["runs"][0]
    load, repeats = scene["load_average"], len(_repeats(first))
    busy = " (other programs were at work: take these times with care)" if load > BUSY else ""
    return [
        f"{scene['chip']}, {scene['memory_GiB']} GiB, {scene['os']}, MLX {scene['mlx']} on {scene['device']}; "
        f"load before: {load:g} of {scene['cores']} cores{busy}",
        f"{model['name']} {model['kind']}, {model['parameter_bytes'] / 1e9:.3f} GB of weights "
        f"ready in {model['ready_seconds']} s; batch {first['batch']}, codec {first['codec']}, "
        f"{first['frames']} frames after {first['frames_before']} that do not count"
        + (f", the middle one of {repeats} runs" if repeats > 1 else ""),
        *(f"add and norm in one kernel, {trial}" for trial in model.get("own_kernels", [])),
    ]


def _headings(report: Mapping[str, Any]) -> list[str]:
    return [f"{run['mode']} @{run['context']}" for run in report["runs"]]


def _rows(report: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    model, runs = report["model"], report["runs"]
    needed = FRAME_RATE * runs[0]["batch"]

    def each(name: str) -> list[Any]:
        return [run[name] for run in runs]

    def spreads(*path: str) -> list[str]:
        return [" / ".join(f"{_at(run, (*path, name)):.1f}" for name in SPREAD) for run in runs]

    def gigabytes(*names: str) -> list[float]:
        return [round(sum(run[name] for name in names) / 1e9, 3) for run in runs]

    return [
        (f"frames/s ({needed:g} needed)", *each("frames_per_second")),
        (f"tokens/s (1 text + {model['tokens_per_frame'] - 1} audio a frame)", *each("tokens_per_second")),
        ("real-time factor", *each("real_time_factor")),
        ("encode ms, p50 / p95 / p99 / max", *spreads("stages", "encode")),
        ("generate ms, p50 / p95 / p99 / max", *spreads("stages", "generate")),
        ("  of which host ms, p50 / p95 / p99 / max", *spreads("stages", "host")),
        *((f"  {part} ms *", *spreads("parts", part)) for part in runs[0]["parts"]),
        ("decode ms, p50 / p95 / p99 / max", *spreads("stages", "decode")),
        ("frame ms", *spreads("frame")),
        *([("frame p50 ms, all runs", *map(_range, runs))] if len(_repeats(runs[0])) > 1 else []),
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


def _range(run: Mapping[str, Any]) -> str:
    """How far the medians of all runs lie apart."""
    low, *_, high = sorted(one["p50_ms"] for one in _repeats(run))
    return f"{low:.1f} to {high:.1f} ({(high - low) / low:.1%})"


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
