"""Time PersonaPlex's prompt, prefilled in passes against stepped, and count what 8 of 16 depth steps save.

    python -m benchmarks.persona_prompt [--width 1024] [--layers 16] [--frames 151]

The model has PersonaPlex's streams and vocabularies and random float32 weights, so only times and equality of
states mean something.
"""

import argparse
import time
from collections.abc import Iterator

import mlx.core as mx
import numpy as np

from moshi_mlx.bench.shapes import random_lm
from moshi_mlx.models.config import PERSONAPLEX_7B, LmConfig
from moshi_mlx.planning.planner import size_of
from moshi_mlx.runtime.batch import PREFILL_POSITIONS, Batch
from moshi_mlx.runtime.moshi import Moshi
from moshi_mlx.runtime.prompt import Prompt
from moshi_mlx.runtime.wordless import wordless
from moshi_mlx.sampling_config import GREEDY

ROUNDS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--frames", type=int, default=151)
    options = parser.parse_args()
    whole = LmConfig.from_dict(PERSONAPLEX_7B)
    for name, config in (("8 steps", whole), ("16 steps", whole.as_stored)):
        size = size_of(config)
        print(
            f"{name}: {2e-9 * size.stored:.2f} GB stored, {2e-9 * size.per_frame:.2f} GB read a frame in bfloat16"
        )
    small = {
        "dim": options.width,
        "num_heads": 8,
        "num_layers": options.layers,
        "depformer_dim": options.width // 2,
    }
    config = LmConfig.from_dict(
        {**PERSONAPLEX_7B, **small, "depformer_num_heads": 8, "depformer_dim_feedforward": None}
    )
    moshi = wordless(random_lm(config, "f32"))
    random = np.random.RandomState(0)
    texts = random.randint(0, config.text_card, options.frames)
    codes, heard = random.randint(0, config.card, (2, options.frames, 8))
    prompt = Prompt(texts.astype(np.int32), codes.astype(np.int32), heard.astype(np.int32))
    rounds = [(prefilled(moshi, prompt), stepped(moshi, prompt)) for _ in range(ROUNDS + 1)][1:]
    (_, ours), (_, theirs) = rounds[-1]
    worst = max(
        np.abs(np.array(one) - np.array(other)).max()
        for one, other in zip(arrays(ours), arrays(theirs), strict=True)
    )
    positions = options.frames - 1
    fast, slow = (sorted(times) for times in zip(*((one[0], two[0]) for one, two in rounds), strict=True))
    print(f"{positions} positions: {-(-positions // PREFILL_POSITIONS)} passes against {positions}")
    print(f"prefilled {1e3 * fast[1]:.0f} ms ({1e3 * fast[0]:.0f} - {1e3 * fast[-1]:.0f}), ", end="")
    print(
        f"stepped {1e3 * slow[1]:.0f} ms ({1e3 * slow[0]:.0f} - {1e3 * slow[-1]:.0f}): {slow[1] / fast[1]:.1f} x"
    )
    print(f"states differ by at most {worst:.1e}")


def prefilled(moshi: Moshi, prompt: Prompt) -> tuple[float, Batch]:
    """Seconds of joining with a prompt, and the batch."""
    batch = moshi.batch(1)
    start = time.perf_counter()
    batch.join(0, GREEDY, prompt=prompt)
    return time.perf_counter() - start, batch


def stepped(moshi: Moshi, prompt: Prompt) -> tuple[float, Batch]:
    """Seconds of the same steps one by one, and the batch."""
    batch = moshi.batch(1)
    session = batch.join(0, GREEDY)
    take, made = session.take, iter(prompt.steps(moshi.lm.config))
    known: Iterator[np.ndarray] = (row for _, row in made)
    session.take = lambda sampled, vad=None: take(next(known), vad)
    start = time.perf_counter()
    for heard, _ in prompt.steps(moshi.lm.config):
        session.generate(heard)
    return time.perf_counter() - start, batch


def arrays(batch: Batch) -> list[mx.array]:
    """Keys and values."""
    return batch._state.temporal.arrays()


if __name__ == "__main__":
    main()
