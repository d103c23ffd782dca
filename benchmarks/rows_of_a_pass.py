"""What a product of several rows costs beside one of a single row: whether a pass of several frames can pay.

    python benchmarks/rows_of_a_pass.py
    scripts/with_blas.sh python benchmarks/rows_of_a_pass.py

One layer of 2048 inputs and 4096 outputs, random, in each kind of weights. Products take turns round by round.
Given is processor time, which other programs disturb less than the clock. `tasks/transcribe.worthwhile_ahead`
tries the same.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from moshi_mlx.bench.scene import scene
from moshi_mlx.cli.tables import table
from moshi_mlx.weights.quantization import parse_scheme

INPUTS, OUTPUTS = 2048, 4096
ROWS = (1, 4, 16)
KINDS = ("float32", "bfloat16", "q8", "q4")
PRODUCTS = 4  # of a measurement


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, default=Path(".bench/rows.json"))
    options = parser.parse_args()
    found = {"scene": scene(), "rows": timed(options.rounds)}
    print(table([tuple(row.values()) for row in found["rows"]], found["rows"][0]))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(found, indent=1))


def layer(kind: str) -> nn.Module:
    """Return a layer without bias; quantized ones take bfloat16, as Moshi's do."""
    made = nn.Linear(INPUTS, OUTPUTS, bias=False)
    if kind != "float32":
        made.set_dtype(mx.bfloat16)
    if kind.startswith("q"):
        scheme = parse_scheme(kind)
        made = nn.QuantizedLinear.from_linear(made, scheme.group_size, scheme.bits)
    mx.eval(made.parameters())
    return made


def timed(rounds: int) -> list[dict[str, Any]]:
    """Time every kind with every number of rows; ms of processor time, and the ratio to one row within a round."""
    layers = {kind: layer(kind) for kind in KINDS}
    times: dict[tuple[str, int], list[float]] = {(kind, rows): [] for kind in KINDS for rows in ROWS}
    for turn in range(rounds + 1):
        for (kind, rows), each in times.items():
            x = mx.ones((1, rows, INPUTS), mx.float32 if kind == "float32" else mx.bfloat16)
            mx.eval(layers[kind](x))  # brings the weights as near as they come: those of the kind before lay there
            start = time.process_time()
            for _ in range(PRODUCTS):
                mx.eval(layers[kind](x))
            if turn:  # the first one may compile
                each.append(1000 * (time.process_time() - start) / PRODUCTS)
    found = []
    for (kind, rows), each in times.items():
        ratios = [taken / one for taken, one in zip(each, times[kind, 1], strict=True)]
        found.append(
            {
                "weights": kind,
                "rows": rows,
                "ms": round(statistics.median(each), 2),
                "over one row": round(statistics.median(ratios), 1),
                "low": round(min(ratios), 1),
                "high": round(max(ratios), 1),
            }
        )
    return found


if __name__ == "__main__":
    main()
