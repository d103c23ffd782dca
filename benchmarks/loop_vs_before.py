"""The loop of this build against that of an earlier one, alternating in one run: time of a frame, same replies.

    python benchmarks/loop_vs_before.py BEFORE [--model nano] [--rounds 24] [--frames 50] [--json]

BEFORE is a folder with the `moshi_mlx` of the earlier build (a git worktree). Both run in this environment,
with the MLX codec. The replies, words and samples, must be the same.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np
from workers import Worker, alternate

from moshi_mlx.bench.scene import scene

HERE = Path(__file__).resolve().parents[1]


def loop_vs_before(before: Path, model: str, rounds: int, frames: int) -> dict[str, Any]:
    """Times of a frame, ms, and before / now taken round by round: median with its 95 % interval."""
    sides = {"now": HERE, "before": before}
    workers = {
        name: Worker(sys.executable, "worker_loop.py", model, package=package) for name, package in sides.items()
    }
    medians = alternate(workers, rounds, frames, warm_up=frames)
    replies = {name: set(timed) - {"frame"} for name, timed in medians.items()}
    now, then = np.array(medians["now"]["frame"]), np.array(medians["before"]["frame"])
    ratios = then / now
    picks = np.random.RandomState(0).randint(0, rounds, (2000, rounds))
    low, high = np.percentile(np.median(ratios[picks], axis=1), [2.5, 97.5])
    return {
        "model": model,
        "now_ms": round(statistics.median(now), 3),
        "before_ms": round(statistics.median(then), 3),
        "before_over_now": round(float(np.median(ratios)), 4),
        "interval": [round(float(low), 4), round(float(high), 4)],
        "pairs": rounds,
        "frames": frames,
        "same_replies": replies["now"] == replies["before"] and len(replies["now"]) == 1,
        "scene": scene(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--rounds", type=int, default=24)
    parser.add_argument("--frames", type=int, default=50)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    result = loop_vs_before(options.before.resolve(), options.model, options.rounds, options.frames)
    print(json.dumps(result) if options.json else "\n".join(f"{key}: {value}" for key, value in result.items()))
    if not result["same_replies"] or result["interval"][1] < 0.98:
        sys.exit(1)


if __name__ == "__main__":
    main()
