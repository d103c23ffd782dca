"""Nano's recorded conversation, token for token: the embedded model, its codec, its delays, the step as it runs.

What it said where this package is tested lies in golden.json (`scripts/make_check_golden.py` writes it). Weights
and activations are float32 on any device. Where a token differs although its logit is as good as equal to that of
the recorded one (`TIE`), it is no difference; the conversation goes on with the recorded tokens in any case.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import mlx.core as mx
import numpy as np

from moshi_mlx.audio.files import read_audio
from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.checkpoint.nano import NAME, RECORDING
from moshi_mlx.doctor.check.comparison import Case, on_gpu
from moshi_mlx.doctor.check.layers import Made
from moshi_mlx.doctor.check.shapes import MOSHI, Shapes
from moshi_mlx.frames import split_frames
from moshi_mlx.models.config_reader import read_json
from moshi_mlx.models.lm import Lm
from moshi_mlx.runtime.delays import DelayLine
from moshi_mlx.runtime.sampling import frame_keys, gumbel
from moshi_mlx.runtime.step import Draw, FrameStep
from moshi_mlx.sampling_config import GREEDY, SamplingConfig

GOLDEN = Path(__file__).with_name("golden.json")
SEED = 22
DRAWS = SamplingConfig(text_temperature=3.0, audio_temperature=3.0)
"""Warmer than Moshi's own: Nano is so sure of what it says that hardly a token would differ from the likeliest."""
TIE = 1e-4  # of the largest logit: two ways to add up float32 differ by less, two tokens that differ by more
NOISE = (4, 2)  # draws of random numbers that are recorded, rows of them


@dataclass(frozen=True)
class Golden:
    """heard: (n, 8), the user's codes. greedy, sampled: (n, 9), [text, codes] of each step. noise: (2, 4), Gumbel.

    sampled was drawn with DRAWS, of the same steps: the conversation went on with greedy tokens.
    """

    heard: np.ndarray
    greedy: np.ndarray
    sampled: np.ndarray
    noise: np.ndarray

    @classmethod
    @cache
    def read(cls) -> Golden:
        """Read what is recorded."""
        found = read_json(GOLDEN, "the recorded conversation")
        heard, greedy, sampled = (np.array(found[name], np.int32) for name in ("heard", "greedy", "sampled"))
        return cls(heard, greedy, sampled, np.array(found["noise"], np.float32))


@cache
def nano() -> tuple[Lm, Checkpoint]:
    """Load the model, once."""
    checkpoint = Checkpoint.resolve(NAME, offline=True)
    lm = checkpoint.load_lm(dtype=mx.float32)
    lm.fuse()
    return lm, checkpoint


def cases(shapes: Shapes) -> Iterator[Case]:
    """List them."""
    n = shapes.frames
    few = 0.02 if on_gpu() else 0.0  # a latent may lie between two entries of a codebook
    yield Case("random numbers", "Gumbel noise of two keys", 1e-4, _noise)
    yield Case("Nano's codes", f"share of codes that differ, {n} frames", few, partial(_codes, n))
    yield Case("Nano's logits", f"distance from the recorded tokens, {n} frames at once", TIE, partial(_logits, n))
    yield Case("Nano's steps", f"frames with other tokens, of {n}, compiled", 0.0, partial(_steps, n, GREEDY))
    if shapes is MOSHI:  # tracing it takes a second
        detail = f"share of tokens that differ, {n} frames, seeded"
        # Noise, too, is rounded here and there.
        yield Case("Nano's draws", detail, few / 2, partial(_steps, n, DRAWS))


def _noise() -> Made:
    size, rows = NOISE
    return gumbel(mx.array(frame_keys([(SEED, row) for row in range(rows)])), size), Golden.read().noise


def _codes(n: int) -> Made:
    stream, heard = nano()[1].load_codec("mlx").stream(), []
    for frame in list(split_frames(read_audio(RECORDING).pcm))[:n]:
        heard.append(stream.encode(frame))
    # The model hears nothing at its first step, see `Session.encode`.
    return _share(np.stack(heard)[: n - 1] != Golden.read().heard[1:n])


def _logits(n: int) -> Made:
    """How far each recorded token's logit lies below the best one, all positions in one pass, not compiled."""
    lm, golden = nano()[0], Golden.read()
    hidden = lm.temporal(mx.array(inputs(lm, golden, n))[None], lm.new_state())
    text = np.array(lm.text_linear(hidden))[0]
    forced = mx.array(golden.greedy[:n].T[None])
    codes = np.array(lm.depformer.logits(hidden, forced))[0]
    behind = [_behind(text, golden.greedy[:n, 0])]
    behind += [_behind(logits, golden.greedy[:n, 1 + k]) for k, logits in enumerate(codes)]
    return np.array(behind), np.zeros((9, n))


def _steps(n: int, sampling: SamplingConfig) -> Made:
    """Step frame by frame as a conversation does; the next frame reads the recorded tokens."""
    lm, golden = nano()[0], Golden.read()
    made = run(lm, golden.heard[:n], sampling, golden.greedy)
    recorded = golden.greedy if sampling == GREEDY else golden.sampled
    differ = made != recorded[:n]
    if sampling == GREEDY:
        frames = differ.any(1) & ~_tied(n) if differ.any() else differ.any(1)
        return frames.astype(np.float32), np.zeros(n)
    return _share(differ)


def inputs(lm: Lm, golden: Golden, n: int) -> np.ndarray:
    """Return what the model reads at each step, (1 + n_q, n) int32."""
    delays, columns = DelayLine(lm.config), []
    for heard, (text, *codes) in zip(golden.heard[:n], golden.greedy, strict=False):
        columns.append(delays.inputs(heard))
        delays.accept(int(text), np.array(codes))
    return np.stack(columns, axis=1)


def run(lm: Lm, heard: np.ndarray, sampling: SamplingConfig, forced: np.ndarray | Sequence[None]) -> np.ndarray:
    """Step over what is heard. forced: tokens that the next frame reads, None for those that were made.

    Returns the tokens that were made, (n, 9).
    """
    delays, state, step, made = DelayLine(lm.config), lm.new_state(), FrameStep(lm), []
    for frame, (codes, known) in enumerate(zip(heard, forced, strict=False)):
        tokens = delays.inputs(codes)[None, :, None]
        made.append(step(tokens, [Draw(sampling, SEED, frame)], state).sampled[0])
        text, *own = made[-1] if known is None else known
        delays.accept(int(text), np.array(own))
    return np.stack(made)


def _tied(n: int) -> np.ndarray:
    """(n,) bool: frames in which another token was as good as the recorded one, so that others may follow it."""
    lm, golden = nano()[0], Golden.read()
    hidden = lm.temporal(mx.array(inputs(lm, golden, n))[None], lm.new_state())
    codes = lm.depformer.logits(hidden, mx.array(golden.greedy[:n].T[None]))
    tied = np.zeros(n, bool)
    for logits in (np.array(lm.text_linear(hidden))[0], *np.array(codes)[0]):
        second, best = np.sort(logits, axis=-1)[:, -2:].T
        tied |= best - second <= TIE * np.abs(logits).max(-1)
    return tied


def _behind(logits: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """logits: (n, V). Returns (n,), as shares of the largest logit."""
    own = np.take_along_axis(logits, tokens[:, None], axis=-1)[:, 0]
    return (logits.max(-1) - own) / np.abs(logits).max(-1)


def _share(differ: np.ndarray) -> Made:
    return np.array([differ.mean()]), np.zeros(1)
