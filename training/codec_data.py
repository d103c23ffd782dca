"""Batches for the codec: what people say, with its phones, and what Nano says, on the grid of its frames."""

from dataclasses import dataclass

import numpy as np
import torch

from training import augment
from training.answers import LEAD_FRAMES, cut
from training.codec import FRAME, SUB_FRAMES
from training.corpus import LABEL_SAMPLES, Corpus
from training.phones import IGNORE

CROP_FRAMES = 20


@dataclass(frozen=True)
class Batch:
    """pcm: [B, samples]; phones: [B, frames, sub-frames], IGNORE where unknown."""

    pcm: torch.Tensor
    phones: torch.Tensor


def user_batch(rng: np.random.Generator, corpus: Corpus, size: int) -> Batch:
    """`size` crops of what people say (and of noise), as microphones hear it."""
    length = CROP_FRAMES * FRAME
    pcm = np.zeros((size, length), np.float32)
    phones = np.full((size, CROP_FRAMES * SUB_FRAMES), IGNORE, np.int64)
    for row in range(size):
        if rng.random() < 0.06:
            pcm[row] = augment.spoiled(rng, 0.5 * augment.bumps(rng, length) * rng.choice([0.0, 0.2, 1.0]))
            phones[row] = 0
            continue
        said = corpus.utterance(corpus.any(rng))
        factor = float(np.exp(rng.uniform(-0.14, 0.14)))
        spare = len(said.pcm) - length * factor
        start = rng.uniform(min(0, spare) - 0.3 * length, max(0, spare) + 0.3 * length)
        heard = augment.warped(said.pcm, factor, length, start)
        pcm[row] = augment.spoiled(rng, heard)
        times = start + factor * np.arange(CROP_FRAMES * SUB_FRAMES) * (FRAME // SUB_FRAMES)
        labels = np.floor(times / LABEL_SAMPLES).astype(int)
        inside = (labels >= 0) & (labels < len(said.labels))
        phones[row] = np.where(inside, said.labels[np.clip(labels, 0, len(said.labels) - 1)], 0)
    return Batch(torch.from_numpy(pcm), torch.from_numpy(phones).view(size, CROP_FRAMES, SUB_FRAMES))


def model_batch(rng: np.random.Generator, streams: list[np.ndarray], size: int) -> torch.Tensor:
    """`size` crops [B, samples] of Nano's answers, some of them cut short, all on the grid of frames."""
    pcm = np.zeros((size, CROP_FRAMES * FRAME), np.float32)
    for row in range(size):
        stream = streams[rng.integers(len(streams))]
        frames = len(stream) // FRAME
        if rng.random() < 0.15:
            stream = cut(stream, int(rng.integers(LEAD_FRAMES + 1, frames)))
        start = rng.integers(0, max(1, frames - CROP_FRAMES + 4))
        piece = stream[start * FRAME : (start + CROP_FRAMES) * FRAME]
        pcm[row, : len(piece)] = piece
    return torch.from_numpy(pcm)
