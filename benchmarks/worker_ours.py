"""Our side of `step_vs_peer.py`: reads a number of frames a line, answers their times in ms as a JSON list.

python worker_ours.py WIDTH dense|q4 TEXT_CARD CARD cpu|gpu
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from gpu_graph import build_gpu_graph
from waits import Waits

from moshi_mlx import load
from moshi_mlx.bench.shapes import narrowed
from moshi_mlx.checkpoint.random_checkpoint import TINY_MIMI, write_random_checkpoint
from moshi_mlx.models import rope
from moshi_mlx.models.config import MOSHI_7B


def main() -> None:
    width, kind, text_card, card = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    if sys.argv[5] == "gpu":
        build_gpu_graph()
        rope.use_table = lambda: False
    mimi = TINY_MIMI | {"quantizer": TINY_MIMI["quantizer"] | {"bins": card}}
    scheme = None if kind == "dense" else kind
    with tempfile.TemporaryDirectory() as folder:
        path = write_random_checkpoint(
            Path(folder) / "model",
            narrowed(MOSHI_7B, width, text_card=text_card, card=card),
            mimi,
            layout="mlx",
            scheme=scheme,
            dtype="float32",  # as the peer's: beside float32 activations, other scales would be cast at every use
        )
        session = load(str(path), codec="mlx").session(seed=1)
    random = np.random.RandomState(0)
    waits = Waits()
    for line in sys.stdin:
        times, host = [], []
        for codes in random.randint(0, card, (int(line), 8)):
            start, before = time.perf_counter(), waits.seconds
            session.generate(codes)
            times.append(1000 * (time.perf_counter() - start))
            host.append(times[-1] - 1000 * (waits.seconds - before))
        print(json.dumps({"step": times, "host": host}), flush=True)


main()
