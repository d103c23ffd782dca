"""`make bench`: everything that has a gate, on the CPU, in some minutes; fails when a gate is missed.

    scripts/with_blas.sh python benchmarks/run.py [--rounds 8] [--out FILE] [--skip-mimi] [--skip-several]

Counts come from the graph and are the same everywhere. Speeds are ratios to the peer, alternating in one run; they
need a machine that does nothing else. All of it goes to a JSON file, and as a table to stdout.
"""

import argparse
import json
import os
import statistics
import sys
from pathlib import Path
from typing import Any

from gates import BATCH_GATES, COUNT_GATES, LIVE_GATES, MIMI_GATES, SEVERAL_GATES, SPEED_GATES, missed
from mimi_vs_peer import mimi_vs_peer
from peer_environment import peer_python
from several_vs_before import first_build, ratios_of, several_table, several_vs_before
from step_vs_peer import host_vs_peer, step_vs_peer

from moshi_mlx.bench.counts import count, traffic
from moshi_mlx.bench.measure import Workload, measure
from moshi_mlx.bench.scene import scene
from moshi_mlx.bench.shapes import random_lm, shape
from moshi_mlx.cli.tables import table
from moshi_mlx.models.config import MOSHI_7B, LmConfig
from moshi_mlx.runtime.wordless import wordless

QUIET = 1.5  # load average above which timings are doubtful


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--out", type=Path, default=Path(".bench/latest.json"))
    parser.add_argument("--skip-mimi", action="store_true")
    parser.add_argument("--skip-several", action="store_true")
    options = parser.parse_args()
    peer = peer_python()
    where = scene()
    if where["load_average"] > QUIET:
        print(f"the machine is busy (load {where['load_average']}): speeds are doubtful", file=sys.stderr)
    if "openblas" not in os.environ.get("LD_PRELOAD", ""):
        print("no OpenBLAS in front of MLX's BLAS: dense speeds will miss their gates", file=sys.stderr)
    steps = {
        "dense": step_vs_peer(peer, 64, "dense", options.rounds, 25),
        "q4": step_vs_peer(peer, 128, "q4", options.rounds, 15),
        "host": host_vs_peer(peer, options.rounds),
    }
    first_frame = first_over_median(options.rounds)
    mimi = {} if options.skip_mimi else mimi_vs_peer(peer, options.rounds, 10)
    several = {} if options.skip_several else several_vs_before(first_build(), max(2, options.rounds // 2), 30)
    counts = count("moshi-7b", MOSHI_7B, "q4").as_dict()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    report = {
        "scene": where,
        "load_average_after": os.getloadavg()[0],
        "steps": steps,
        "mimi": mimi,
        "several": several,
        "counts": counts,
        "first_frame": first_frame,
        "bytes": batch_bytes(),
    }
    options.out.write_text(json.dumps(report, indent=1))

    timed = {**steps, **mimi}
    rows = [
        (
            row["what"],
            row["ours_ms"],
            row["theirs_ms"],
            f"{row['speed_up']}x",
            "{} - {}".format(*row["speed_up_range"]),
            row["speed_up_of_best"],
        )
        for row in timed.values()
    ]
    print(
        table(
            rows,
            (f"ms a frame, median of {options.rounds} rounds", "ours", "theirs", "ratio", "rounds", "of best"),
        )
    )
    if several:
        print("\n" + several_table(several))
    ratios = {name: row["speed_up"] for name, row in timed.items()}
    others = {"first_frame": first_frame["median"], "batch_bytes": report["bytes"]["4 over 1"]["0"]}
    gates = [
        (COUNT_GATES, counts),
        (SPEED_GATES, ratios),
        (LIVE_GATES, others),
        (BATCH_GATES, others),
        *([] if options.skip_mimi else [(MIMI_GATES, ratios)]),
        *([(SEVERAL_GATES, ratios_of(several))] if several else []),
    ]
    rows = [
        (
            gate.name,
            figures[gate.key],
            gate.bar,
            gate.stretch or "",
            "ok" if gate.holds(figures[gate.key]) else "MISSED",
        )
        for group, figures in gates
        for gate in group
    ]
    print("\n" + table(rows, ("gate", "now", "bar", "stretch", "")))
    if several and not several["same"]:
        sys.exit("error: this build and the first one say different words")
    if failures := [line for group, figures in gates for line in missed(figures, group)]:
        sys.exit("error: " + "; ".join(failures))


def first_over_median(rounds: int) -> dict[str, Any]:
    """How much longer the first frame of a conversation takes than its median frame."""
    ratios = []
    for _ in range(rounds):
        moshi = wordless(random_lm(LmConfig.from_dict(shape("moshi-tiny")), "q4"))
        run = measure(moshi, Workload(frames=60))
        ratios.append(run["first_frame_ms"] / run["stages"]["generate"]["p50_ms"])
    return {
        "median": round(statistics.median(ratios), 2),
        "range": [round(min(ratios), 2), round(max(ratios), 2)],
    }


def batch_bytes() -> dict[str, Any]:
    """Gigabytes read per frame at Moshi 7B's shape, q4, by conversations in a step and past positions."""
    config = LmConfig.from_dict(MOSHI_7B)
    read = {
        str(context): {
            str(batch): round(traffic(config, "q4", context, batch).total / 1e9, 3) for batch in (1, 4, 16)
        }
        for context in (0, 750, 1500, 3000)
    }
    return {"GB": read, "4 over 1": {context: round(row["4"] / row["1"], 2) for context, row in read.items()}}


if __name__ == "__main__":
    main()
