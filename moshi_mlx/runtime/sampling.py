"""Logits to tokens: temperature, top-k, top-p, min-p, repetition penalty; randomness belongs to a session.

What is wanted is a `sampling_config.SamplingConfig`. Source: moshi/utils/sampling.py.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from moshi_mlx.sampling_config import SamplingConfig


@dataclass(frozen=True)
class Features:
    """What a drawing needs to compute; what is off costs nothing. Compiled code is made for one of these."""

    sampled: bool = False  # False: every row is greedy
    top_k: int = 0  # the largest of any row that is not greedy
    same_top_k: bool = True  # of all those rows
    top_p: bool = False
    min_p: bool = False


Values = mx.array | tuple[mx.array, ...]
"""What `RowSettings.values` holds, or its five rows, which several draws may share."""


class RowSettings:
    """The settings of one kind of stream for the rows of a batch, ready for `sample`.

    kind: "text" or "audio". vocabulary: the logits' width.
    values: (5, B, 1) float32: 1 / temperature, noise (0 = greedy), top_k (0 = all), top_p, log min_p.
    """

    def __init__(self, configs: Sequence[SamplingConfig], kind: str, vocabulary: int) -> None:
        temperatures = [getattr(config, f"{kind}_temperature") for config in configs]
        # All of the vocabulary is no choice: one row's "all" must not switch off another row's few.
        top_ks = [k if (k := getattr(config, f"{kind}_top_k")) < vocabulary else 0 for config in configs]
        # A greedy row takes its likeliest token, which every choice of the best holds.
        drawn = {k for k, temperature in zip(top_ks, temperatures, strict=True) if temperature}
        self.features = Features(
            sampled=any(temperatures),
            top_k=max(drawn, default=0),
            same_top_k=len(drawn) <= 1,
            top_p=any(0 < config.top_p < 1 for config in configs),
            min_p=any(config.min_p > 0 for config in configs),
        )
        rows = [
            (
                1 / temperature if temperature else 1.0,
                float(temperature > 0),
                top_k,
                config.top_p or 1.0,
                math.log(config.min_p) if config.min_p else -math.inf,
            )
            for temperature, top_k, config in zip(temperatures, top_ks, configs, strict=True)
        ]
        self.values = np.array(rows, dtype=np.float32).T[..., None]


def frame_keys(draws: Sequence[tuple[int, int]]) -> np.ndarray:
    """(seed, frame) of each row -> (B, 2) uint32: all randomness of a frame, a function of these two alone."""
    return np.array([(seed, frame % 2**32) for seed, frame in draws], dtype=np.uint32)


def gumbel(keys: mx.array, size: int) -> mx.array:
    """Noise for all draws of one frame, (B, size) float32. keys: (B, 2) uint32 from `frame_keys`."""
    rows = [mx.random.gumbel((1, size), key=key.reshape(2)) for key in mx.split(keys, keys.shape[0])]
    return rows[0] if len(rows) == 1 else mx.concatenate(rows)


def sample(logits: mx.array, noise: mx.array | None, features: Features, values: Values) -> mx.array:
    """Draw one token per row.

    logits: (B, V). noise: (B, V) Gumbel, None if nothing is sampled. features, values: of a `RowSettings`.
    Returns (B,) uint32, as MLX's argmax does: another type would be a kernel for every draw.
    """
    if not features.sampled:
        return mx.argmax(logits, axis=-1)
    assert noise is not None
    rows = tuple(values)
    return mx.argmax(filtered_logits(logits, features, rows) + noise * rows[1], axis=-1)


def filtered_logits(logits: mx.array, features: Features, values: Values) -> mx.array:
    """Return the logits that tokens are drawn from: divided by the temperature, -inf where filters leave nothing.

    Arguments as in `sample`. Returns (B, V) float32.
    """
    rate, _, top_k, top_p, log_min_p = values
    given, logits = logits, logits.astype(mx.float32) * rate
    if features.top_k:
        # The temperature changes no order: sorted and compared as given, the rest is one kernel.
        best = _best(given, features.top_k)  # (B, top_k) ascending
        edge = best[:, :1]
        if not features.same_top_k:
            edge = mx.take_along_axis(best, (features.top_k - top_k).astype(mx.int32) % features.top_k, axis=-1)
            edge = mx.where(top_k > 0, edge, -mx.inf)
        logits = mx.where(given < edge, -mx.inf, logits)
    if features.top_p:
        logits = _drop_below(logits, _nucleus_edge(logits, top_p))
    if features.min_p:
        logits = _drop_below(logits, mx.max(logits, axis=-1, keepdims=True) + log_min_p)
    return logits


def away_from_contrary(logits: mx.array, guidance: float) -> mx.array:
    """Classifier-free guidance: go from what the contrary condition says towards the condition, and beyond.

    logits: (2 B, V), with the condition and then with the contrary one. guidance: 0 leaves the contrary, 1 the
    condition. Returns (B, V) float32. Source: moshi/models/lm.py `LMGen._step`.
    """
    wanted, contrary = mx.split(logits.astype(mx.float32), 2)
    return contrary + (wanted - contrary) * guidance


def penalise(logits: mx.array, recent: mx.array, penalty: mx.array) -> mx.array:
    """Make tokens that were used recently less likely.

    logits: (B, V). recent: (B, n) int32 token ids, repeats do not count. penalty: (B, 1) float32; positive logits
    are divided by it, negative ones multiplied.
    """
    scores = mx.take_along_axis(logits, recent, axis=-1).astype(mx.float32)
    scores = mx.where(scores > 0, scores / penalty, scores * penalty).astype(logits.dtype)
    return mx.put_along_axis(logits, recent, scores, axis=-1)


def _drop_below(logits: mx.array, edge: mx.array) -> mx.array:
    return mx.where(logits < edge, -mx.inf, logits)


def _best(logits: mx.array, k: int) -> mx.array:
    """The k largest, ascending, (B, V) -> (B, k). A wide vocabulary is cut into groups: short sorts cost less."""
    B, V = logits.shape
    group = next((size for size in range(2048, 4 * k, -1) if V % size == 0), V) if V > 2048 else V
    if group < V:
        logits = mx.sort(logits.reshape(B, V // group, group), axis=-1)[..., -k:].reshape(B, -1)
    return mx.sort(logits, axis=-1)[:, -k:]


def _nucleus_edge(logits: mx.array, top_p: mx.array) -> mx.array:
    """The smallest logit of the fewest tokens whose probabilities reach top_p (B, 1); (B, 1)."""
    ordered = -mx.sort(-logits, axis=-1)
    probabilities = mx.softmax(ordered, axis=-1)
    before = mx.cumsum(probabilities, axis=-1) - probabilities
    return mx.min(mx.where(before > top_p, mx.inf, ordered), axis=-1, keepdims=True)
