"""Batches for the codec: what people say, with its phones, and what Nano says, on the grid of its frames."""

from collections.abc import Iterator
from dataclasses import dataclass
from queue import Queue
from threading import Thread

import numpy as np
import torch

from training import augment
from training.augment import trimmed
from training.codec import FRAME, SUB_FRAMES
from training.corpus import LABEL_SAMPLES, Corpus, model_utterance
from training.dialogue import ANSWERS, UNKNOWN_ANSWER
from training.phones import IGNORE

CROP_FRAMES = 20
LEAD_FRAMES, TAIL_FRAMES = 6, 8  # silence around an answer, long enough for the codec to forget what was before
FADE = 240  # samples: how fast Nano falls silent when interrupted


@dataclass(frozen=True)
class Batch:
    """pcm: [B, samples]; phones: [B, frames, sub-frames], IGNORE where unknown."""

    pcm: torch.Tensor
    phones: torch.Tensor


def answer_streams() -> dict[str, np.ndarray]:
    """Every answer's text to its samples: silence, speech that starts on a frame, silence, in whole frames."""
    streams = {}
    for text in (*dict.fromkeys(ANSWERS.values()), UNKNOWN_ANSWER):
        pcm = trimmed(model_utterance(text).pcm)
        frames = LEAD_FRAMES + -(-len(pcm) // FRAME) + TAIL_FRAMES
        stream = np.zeros(frames * FRAME, np.float32)
        stream[LEAD_FRAMES * FRAME :][: len(pcm)] = pcm
        streams[text] = stream
    return streams


def cut(stream: np.ndarray, frame: int) -> np.ndarray:
    """The stream of an answer that falls silent at `frame`."""
    out = stream.copy()
    out[frame * FRAME :][:FADE] *= np.linspace(1, 0, FADE, dtype=np.float32)
    out[frame * FRAME + FADE :] = 0
    return out


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


def ahead(make, depth: int = 4) -> Iterator:
    """Call `make()` for ever on another thread, at most `depth` results ahead."""
    queue: Queue = Queue(depth)

    def work() -> None:
        while True:
            queue.put(make())

    Thread(target=work, daemon=True).start()
    while True:
        yield queue.get()
