"""What looking for NaN and zeros costs of the time to load a model: alternating pairs of loads, with and without.

    python benchmarks/load_checks.py FOLDER [--scheme q4|q8] [--pairs N]

Writes a random checkpoint of a few hundred MB into FOLDER unless it is there (bfloat16 without a scheme). The file
comes from the page cache, which is when a check weighs most. Prints one line of JSON; fails above the limit.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from unittest import mock

import mlx.core as mx

from moshi_mlx.bench.scene import scene
from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.checkpoint.random_checkpoint import TINY, write_random_checkpoint
from moshi_mlx.runtime.moshi import load
from moshi_mlx.weights.values import Look

LIMIT = 0.03  # of the time to load
CONFIG = {
    **TINY, "dim": 1024, "num_heads": 16, "num_layers": 12, "text_card": 4000, "card": 2048, "depformer_dim": 512,
    "depformer_num_heads": 8, "depformer_num_layers": 4, "depformer_dim_feedforward": 1536,
}  # fmt: skip


def seconds(folder: Path) -> float:
    start = time.perf_counter()
    load(folder, codec="mlx", offline=True)
    taken = time.perf_counter() - start
    mx.clear_cache()
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scheme", choices=("q4", "q8"))
    parser.add_argument("--pairs", type=int, default=20)
    options = parser.parse_args()
    if not options.folder.exists():
        if options.scheme:
            write_random_checkpoint(options.folder, CONFIG, None, layout="mlx", scheme=options.scheme)
        else:
            write_random_checkpoint(options.folder, CONFIG, None, dtype="bfloat16")
    unlooked = mock.patch("moshi_mlx.weights.lm_weights.Look", return_value=Look([]))
    seconds(options.folder)  # into the page cache
    plain, checked = [], []
    for _ in range(options.pairs):
        with unlooked:
            plain.append(seconds(options.folder))
        checked.append(seconds(options.folder))
    more = statistics.median(b - a for a, b in zip(plain, checked, strict=True))
    share = more / statistics.median(plain)
    print(
        json.dumps(
            {
                "weights_MB": round(Checkpoint.resolve(options.folder).weights.nbytes / 1e6),
                "scheme": options.scheme or "bf16",
                "pairs": options.pairs,
                "load_seconds": round(statistics.median(plain), 3),
                "check_seconds": round(more, 4),
                "share": round(share, 4),
                "scene": scene(),
            }
        )
    )
    sys.exit(share > LIMIT)


if __name__ == "__main__":
    main()
