"""Cases of sampling: filters, the penalty, guidance, and the draw itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import mlx.core as mx
import numpy as np

from moshi_mlx.doctor.check import closed_form
from moshi_mlx.doctor.check.comparison import NAMES, Case, Noise, numbers
from moshi_mlx.doctor.check.layers import TYPES, Made
from moshi_mlx.doctor.check.shapes import Shapes
from moshi_mlx.runtime.sampling import RowSettings, away_from_contrary, filtered_logits, penalise, sample
from moshi_mlx.sampling_config import GREEDY, SamplingConfig

CLOSE = 1e-5
SETTINGS = {
    "top-k": SamplingConfig(),
    "top-p": SamplingConfig(text_top_k=0, audio_top_k=0, top_p=0.9),
    "min-p": SamplingConfig(text_top_k=0, audio_top_k=0, min_p=0.05),
    "greedy": GREEDY,
}


def cases(shapes: Shapes) -> Iterator[Case]:
    """List them."""
    noise = Noise(5)
    for kind, width in (("text", shapes.lm.text_card), ("audio", shapes.lm.card)):
        for name, config in SETTINGS.items():
            few = replace(config, **{f"{kind}_top_k": min(getattr(config, f"{kind}_top_k"), width // 2)})
            for dtype in TYPES:
                detail = f"{name}, {kind}, {NAMES[dtype]}, {width} wide, batch 2"
                yield Case("sampling", detail, CLOSE, partial(_draw, kind, width, few, dtype, noise))
    yield Case("repetition penalty", f"f32, {shapes.lm.text_card} wide", CLOSE, partial(_penalty, shapes, noise))
    yield Case("guidance", f"f32, {shapes.lm.card} wide", CLOSE, partial(_guidance, shapes, noise))


def _draw(kind: str, width: int, config: SamplingConfig, dtype: mx.Dtype, noise: Noise) -> Made:
    """What is left of the logits, and how far the drawn token's score lies below the best one."""
    settings, temperature = RowSettings([config, config], kind, width), getattr(config, f"{kind}_temperature")
    logits = mx.array(3 * noise.normal(2, width)).astype(dtype)
    luck, values = np.maximum(noise.normal(2, width), 0), mx.array(settings.values)
    left = numbers(filtered_logits(logits, settings.features, values) if temperature else logits)
    drawn = numbers(sample(logits, mx.array(luck), settings.features, values))
    off = not temperature
    top_k = 0 if off else config.text_top_k if kind == "text" else config.audio_top_k
    top_p, min_p = (0.0, 0.0) if off else (config.top_p, config.min_p)
    rows = numbers(logits)
    right = np.stack([closed_form.filtered(row, temperature or 1.0, top_k, top_p, min_p) for row in rows])
    scores = right + (luck if temperature else 0)
    return (
        np.concatenate([left, np.take_along_axis(scores, drawn[:, None], 1)], 1),
        np.concatenate([right, scores.max(1, keepdims=True)], 1),
    )


def _penalty(shapes: Shapes, noise: Noise) -> Made:
    logits, recent = noise.normal(2, shapes.lm.text_card), np.array([[3, 5, 3, 8], [0, 1, 1, 1]], np.int32)
    penalty = np.array([[1.5], [1.0]], np.float32)
    right = logits.copy()
    for row, tokens in enumerate(recent):
        for token in set(tokens.tolist()):
            right[row, token] *= penalty[row, 0] if right[row, token] < 0 else 1 / penalty[row, 0]
    return penalise(mx.array(logits), mx.array(recent), mx.array(penalty)), right


def _guidance(shapes: Shapes, noise: Noise) -> Made:
    logits = noise.normal(4, shapes.lm.card)
    return away_from_contrary(mx.array(logits), 3.0), 3 * logits[:2] - 2 * logits[2:]
