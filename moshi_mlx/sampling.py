"""Logits to tokens: temperature, top-k, top-p, min-p, repetition penalty; randomness belongs to a session.

Defaults are PyTorch's (audio 0.8 / top-k 250, text 0.7 / top-k 25). Source: moshi/models/lm.py `LMGen.__init__`,
moshi/utils/sampling.py.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, fields

import mlx.core as mx
import numpy as np

from moshi_mlx.errors import ConfigError

MAX_SEED = 2**32 - 1


@dataclass(frozen=True)
class SamplingConfig:
    """How tokens are drawn. A temperature of 0 is greedy; 0 turns top_k, top_p and min_p off.

    Raises ConfigError for values that mean nothing.
    """

    text_temperature: float = 0.7
    text_top_k: int = 25
    audio_temperature: float = 0.8
    audio_top_k: int = 250
    top_p: float = 0.0  # keep the fewest tokens whose probabilities reach this, in (0, 1)
    min_p: float = 0.0  # drop tokens less likely than this share of the likeliest, in (0, 1)
    repetition_penalty: float = 1.0  # divides the odds of recent text tokens; 1 = off; padding is never penalised
    repetition_context: int = 64  # text tokens (padding not counted) that the penalty looks back on

    def __post_init__(self) -> None:
        for name, low, high in _RANGES:
            value = getattr(self, name)
            if not low <= value <= high:  # also refuses NaN
                raise ConfigError(f"sampling: {name} is {value}, between {low} and {high} expected")

    @property
    def greedy(self) -> bool:
        return self.text_temperature == 0 and self.audio_temperature == 0


_RANGES = [
    ("text_temperature", 0.0, 10.0),
    ("audio_temperature", 0.0, 10.0),
    ("text_top_k", 0, 1_000_000),
    ("audio_top_k", 0, 1_000_000),
    ("top_p", 0.0, 1.0),
    ("min_p", 0.0, 1.0),
    ("repetition_penalty", 0.1, 10.0),
    ("repetition_context", 0, 10_000),
]
assert {name for name, *_ in _RANGES} == {f.name for f in fields(SamplingConfig)}

GREEDY = SamplingConfig(text_temperature=0.0, audio_temperature=0.0)


def new_seed() -> int:
    """A seed nobody chose."""
    return random.SystemRandom().randint(0, MAX_SEED)


def frame_noise(seed: int, frame: int, size: int) -> mx.array:
    """Gumbel noise for all draws of one frame, (size,) float32: a function of (seed, frame) and nothing else."""
    key = mx.array(np.array([seed, frame % 2**32], dtype=np.uint32))
    return mx.random.gumbel((size,), key=key)


@dataclass(frozen=True)
class Draw:
    """What one row needs for the draws of one frame."""

    config: SamplingConfig
    seed: int
    frame: int
    recent_text: Sequence[int] = field(default=())  # for the repetition penalty


class FrameSampler:
    """All draws of one frame for the rows of a batch: `text` once, then `audio` once per codebook.

    draws: one per row, None for rows that do not run; what is drawn for those means nothing.
    """

    def __init__(self, draws: Sequence[Draw | None], text_card: int, card: int, steps: int) -> None:
        self._draws = draws
        self._text_card = text_card
        self._card = card
        self._groups: dict[SamplingConfig, list[int]] = {}  # rows with the same settings are drawn together
        for row, draw in enumerate(draws):
            if draw:
                self._groups.setdefault(draw.config, []).append(row)
        self._noise = None
        if not all(config.greedy for config in self._groups):
            size = text_card + steps * card
            noise = [frame_noise(d.seed, d.frame, size) if d else mx.zeros((size,)) for d in draws]
            self._noise = mx.stack(noise)

    def text(self, logits: mx.array) -> mx.array:
        """(B, text_card) -> (B,) int32."""
        return self._sample(self._penalised(logits), 0, "text")

    def audio(self, logits: mx.array, step: int) -> mx.array:
        """(B, card) of codebook `step` -> (B,) int32."""
        return self._sample(logits, self._text_card + step * self._card, "audio")

    def _sample(self, logits: mx.array, start: int, kind: str) -> mx.array:
        noise = None if self._noise is None else self._noise[:, start : start + logits.shape[-1]]
        tokens = mx.zeros(logits.shape[:1], mx.int32)
        for config, rows in self._groups.items():
            settings = (getattr(config, f"{kind}_temperature"), getattr(config, f"{kind}_top_k"))
            if len(self._groups) == 1:
                return sample(logits, noise, *settings, config.top_p, config.min_p)
            ids = mx.array(rows)
            part = None if noise is None else noise[ids]
            tokens[ids] = sample(logits[ids], part, *settings, config.top_p, config.min_p)
        return tokens

    def _penalised(self, logits: mx.array) -> mx.array:
        penalised = [bool(d and d.config.repetition_penalty != 1 and d.recent_text) for d in self._draws]
        if not any(penalised):
            return logits
        rows = [logits[row : row + 1] for row in range(len(self._draws))]
        for row, draw in enumerate(self._draws):
            if draw and penalised[row]:
                rows[row] = penalise(rows[row], draw.recent_text, draw.config.repetition_penalty)
        return mx.concatenate(rows)


def sample(
    logits: mx.array,
    noise: mx.array | None,
    temperature: float,
    top_k: int,
    top_p: float = 0.0,
    min_p: float = 0.0,
) -> mx.array:
    """Draw one token per row; greedy where the temperature is 0.

    logits: (B, V). noise: (B, V) Gumbel, not read when greedy. Returns (B,) int32.
    """
    if temperature == 0:
        return mx.argmax(logits, axis=-1).astype(mx.int32)
    assert noise is not None
    logits = logits.astype(mx.float32) / temperature
    keep_from = None  # the smallest logit that may still be drawn, (B, 1)
    if 0 < top_k < logits.shape[-1]:
        keep_from = _kth_largest(logits, top_k)
        logits = _drop_below(logits, keep_from)
    if 0 < top_p < 1:
        logits = _drop_below(logits, _nucleus_edge(logits, top_p))
    if min_p > 0:
        logits = _drop_below(logits, mx.max(logits, axis=-1, keepdims=True) + math.log(min_p))
    return mx.argmax(logits + noise, axis=-1).astype(mx.int32)


def penalise(logits: mx.array, recent: Sequence[int], penalty: float) -> mx.array:
    """Make tokens that were used recently less likely.

    logits: (1, V). recent: token ids. Positive logits are divided by `penalty`, negative ones multiplied.
    """
    ids = mx.array(np.unique(np.asarray(recent, dtype=np.int32)))[None]
    scores = mx.take_along_axis(logits, ids, axis=-1)
    return mx.put_along_axis(logits, ids, mx.where(scores > 0, scores / penalty, scores * penalty), axis=-1)


def _drop_below(logits: mx.array, edge: mx.array) -> mx.array:
    return mx.where(logits < edge, -mx.inf, logits)


def _kth_largest(logits: mx.array, k: int) -> mx.array:
    """(B, V) -> (B, 1). A wide vocabulary is cut into groups first: many short sorts cost less than a long one."""
    B, V = logits.shape
    group = next((size for size in range(2048, 4 * k, -1) if V % size == 0), V) if V > 2048 else V
    if group < V:
        logits = mx.sort(logits.reshape(B, V // group, group), axis=-1)[..., -k:].reshape(B, -1)
    return mx.sort(logits, axis=-1)[:, -k, None]


def _nucleus_edge(logits: mx.array, top_p: float) -> mx.array:
    """The smallest logit of the fewest tokens whose probabilities reach top_p, (B, 1)."""
    ordered = -mx.sort(-logits, axis=-1)
    probabilities = mx.softmax(ordered, axis=-1)
    before = mx.cumsum(probabilities, axis=-1) - probabilities
    return mx.min(mx.where(before > top_p, mx.inf, ordered), axis=-1, keepdims=True)
