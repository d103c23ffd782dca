"""Count how many depth codes of a talk a cheap draft has right: what speculation could save. No times.

    scripts/with_blas.sh python -m benchmarks.talk_drafts [--frames 400]

Nano answers its demo recording, greedily, and a random model of the same shape hears random codes. For every
frame, drafts of its codes are verified as speculation would: all depth steps run on the draft, and what they say
up to the first wrong one, itself included, is right. Passes: how often they run, each time on what the pass before
said, until the whole frame is right; as many as there are codes is what steps one after the other cost.
"""

import argparse
from pathlib import Path

import mlx.core as mx
import numpy as np

from moshi_mlx import load
from moshi_mlx.audio.file_stream import FileSource
from moshi_mlx.audio.files import read_audio
from moshi_mlx.bench.shapes import random_lm
from moshi_mlx.models.lm import Lm
from moshi_mlx.quality.conversations import hear, talk
from moshi_mlx.quality.predictions import predict
from moshi_mlx.sampling_config import GREEDY

DEMO = Path(__file__).parents[1] / "moshi_mlx/assets/demo.flac"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--frames", type=int, default=400)
    frames = parser.parse_args().frames
    nano = load("nano", codec="mlx")
    config = nano.lm.config
    demo = hear(nano.codec, config, list(FileSource(read_audio(DEMO).pcm))[:frames])
    noise = np.random.RandomState(0).randint(0, config.card, (frames, config.input_codebooks)).astype(np.int32)
    report("Nano, its demo", nano.lm, demo)
    report("a random model of its shape", random_lm(config, "f32"), noise)


def report(name: str, lm: Lm, heard: np.ndarray) -> None:
    (talked,) = talk(lm, [heard], GREEDY)
    hidden = mx.array(np.concatenate([each.hidden for each in predict(lm, talked)]))[None]
    texts, codes = talked.said[1:, :1], talked.said[1:, 1:]
    hidden, before = hidden[:, 1:], talked.said[:-1, 1:]
    none = np.full_like(codes, -1)
    pads = float((texts == lm.config.text_padding_id).mean())
    print(f"{name}: {len(codes)} frames of {codes.shape[1]} codes; {pads:.1%} of the text is padding")
    new = (codes != before).any(axis=1)
    for draft, drafted in (("the frame before", before), ("no code at all", none)):
        first, passes = verified(lm, hidden, texts, codes, drafted)
        print(
            f"  draft {draft}: {first.mean():.2f} codes right after one pass, {passes.mean():.2f} passes a frame;"
        )
        print(
            f"    of {new.sum()} frames unlike the one before: {first[new].mean():.2f}, {passes[new].mean():.2f}"
        )


def verified(
    lm: Lm, hidden: mx.array, texts: np.ndarray, codes: np.ndarray, draft: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return how many codes of each frame are right after one pass, and how many passes it takes, (T,) each.

    hidden: (1, T, dim). texts: (T, 1). codes, draft: (T, steps).
    """
    passes, first, (count, steps) = np.zeros(len(codes)), None, codes.shape
    right = np.zeros(count, int)
    while (right < steps).any():
        passes += right < steps
        right = np.where(right < steps, 1 + leading(draft[:, :-1] == codes[:, :-1]), right)
        first = right.copy() if first is None else first
        tokens = mx.array(np.concatenate([texts, draft], axis=1).T[None].astype(np.int32))
        draft = np.array(mx.argmax(lm.depformer.logits(hidden, tokens)[0], axis=-1)).T
        known = np.arange(steps) < right[:, None]
        assert (draft[known] == codes[known]).mean() > 0.999, "what a pass verifies is what steps say"
        draft = np.where(known, codes, draft)
    assert first is not None
    return first, passes


def leading(same: np.ndarray) -> np.ndarray:
    """Return how many of the first columns are true, in each row."""
    return np.where(same.all(axis=1), same.shape[1], same.argmin(axis=1))


if __name__ == "__main__":
    main()
