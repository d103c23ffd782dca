"""Memory of a talk over that of its weights and window: begun, steady, and when positions are counted anew.

    scripts/with_blas.sh python -m benchmarks.talk_memory [--width 256]

Moshi 7B's layers, streams, vocabularies and window of 3000 positions at a small width, random weights in q4. Of
what is held above 1, part does not grow with the width (noise for the draws, say), and a CPU's attention copies
the keys of a layer, which a GPU's does not.
"""

import argparse

import mlx.core as mx
import numpy as np

from moshi_mlx.bench.shapes import narrowed, random_lm
from moshi_mlx.models.config import MOSHI_7B, LmConfig
from moshi_mlx.models.layers import parameter_bytes
from moshi_mlx.runtime.batch import Batch
from moshi_mlx.runtime.wordless import wordless

FULL = 3000  # positions of the window


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--width", type=int, default=256)
    width = parser.parse_args().width
    mx.set_cache_limit(0)
    lm = random_lm(LmConfig.from_dict(narrowed(MOSHI_7B, width, context=FULL)), "q4")
    batch = Batch(wordless(lm), 1)
    session, temporal = batch.join(seed=1), batch._state.temporal
    weights, window = parameter_bytes(lm), sum(array.nbytes for array in temporal.arrays())
    print(f"{width} wide: weights {weights / 1e6:.1f} MB, window {window / 1e6:.1f} MB")
    codes = np.random.RandomState(0).randint(0, lm.config.card, (8, lm.config.input_codebooks))
    for name, position in (("begun", None), ("steady", None), ("window full", FULL), ("anew", temporal.rebase_at)):
        if position is not None:
            temporal.position, temporal.from_before = position, True
        mx.reset_peak_memory()
        for frame in codes:
            session.generate(frame)
        held, most = mx.get_active_memory(), mx.get_peak_memory()
        print(f"{name:<12} held {held / (weights + window):.4f}, peak {most / (weights + window):.4f}")


if __name__ == "__main__":
    main()
