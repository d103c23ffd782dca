"""What the sums of a frame cost when several processes share Moshi 7B: those of two a layer, and of what goes in.

    mlx.launch -n 2 .venv/bin/python benchmarks/all_reduce.py
    mlx.launch --hostfile macs.json .venv/bin/python benchmarks/all_reduce.py

Each sum waits for the one before, as in a step. The first process prints µs a sum and ms a frame.
"""

import argparse
import statistics
import time

import mlx.core as mx

from moshi_mlx.cli.tables import table
from moshi_mlx.distributed.group import join_group
from moshi_mlx.models.config import MOSHI_7B, LmConfig


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=200)
    options = parser.parse_args()
    config = LmConfig.from_dict(MOSHI_7B).transformer
    sums, group = 2 * config.num_layers + 1, join_group()

    def frame(x: mx.array) -> float:
        start = time.perf_counter()
        for _ in range(sums):
            x = mx.distributed.all_sum(x, group=group) * (1 / group.size())
        mx.eval(x)
        return time.perf_counter() - start

    rows = [("type", "us a sum: least", "median", "p95", "ms a frame: median")]
    for dtype in (mx.bfloat16, mx.float32):
        x = mx.ones((1, config.dim), dtype)
        frame(x)
        times = sorted(frame(x) for _ in range(options.frames))
        least, median, late = times[0], statistics.median(times), times[int(0.95 * len(times))]
        micro = [f"{1e6 * each / sums:.0f}" for each in (least, median, late)]
        rows.append((str(dtype).rpartition(".")[2], micro[0], micro[1], micro[2], f"{1e3 * median:.1f}"))
    if group.rank() == 0:
        print(f"{group.size()} processes, {sums} sums of {config.dim} numbers a frame")
        print(table(rows[1:], rows[0]))


if __name__ == "__main__":
    main()
