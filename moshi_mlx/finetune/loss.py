"""The loss of Moshi's paper: how badly a model predicts a window's text and Moshi's own codes, teacher-forced.

A model that only listens predicts the text, and classes of voice activity by its extra heads.

Each of text and audio is a weighted mean of cross entropies, and both count alike. Of the audio, the semantic
codebook weighs more than each other one; of the text, padding weighs less than words.
Source: Moshi paper §4; moshi/models/lm.py `LMModel.forward`; moshi-finetune, finetune/loss.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.nn.utils import checkpoint

from moshi_mlx.finetune.streams import NO_TOKEN
from moshi_mlx.models import rope
from moshi_mlx.models.conditioner_config import Condition
from moshi_mlx.models.config import LmConfig, TransformerConfig
from moshi_mlx.models.lm import DepthSlice, DepthTransformer, Lm
from moshi_mlx.models.transformer import TransformerLayer

PARTS: tuple[str, ...] = ("text", "semantic", "acoustic")
"""What losses are reported of: the words, Moshi's first codebook, and its others."""
LISTENING_PARTS: tuple[str, ...] = ("text", "pauses")
"""Of a model that only listens: the words, and all extra heads together."""


def parts_of(config: LmConfig) -> tuple[str, ...]:
    """Return what the losses of a model are reported of."""
    return PARTS if config.depth else LISTENING_PARTS


@dataclass(frozen=True)
class Batch:
    """Windows, ready to be learned from.

    tokens: (B, 1 + n_q, T + 1) int32, delayed, the initial tokens first. weights: (B, 1 + dep_q, T) float32, of
    each prediction within its part; those of a part sum to 1. shares: (3,) float32, of each part in the loss.
    frames: (B, N) int32, the only ones of each window whose codes are predicted; all unless given. That saves the
    depth transformer where codes weigh nothing. conditions: (B, n) int32, each window's `LmConfig.condition_row`,
    of models that take any.

    Of a model that only listens, targets: (B, 1 + extra heads, T) int32, the text to be written and the class that
    each head is to choose, at every position; weights are theirs, and shares (2,), of LISTENING_PARTS.
    """

    tokens: np.ndarray
    weights: np.ndarray
    shares: np.ndarray
    frames: np.ndarray | None = None
    conditions: np.ndarray | None = None
    targets: np.ndarray | None = None

    def arrays(self) -> dict[str, mx.array]:
        """Return what `losses` takes, by these names."""
        return {name: mx.array(each) for name, each in vars(self).items() if each is not None}

    def rows(self, begin: int, end: int) -> Batch:
        """Return some of the windows. Weights are of the whole, so losses of all parts add up."""
        parts: dict[str, Any] = {
            name: each if each is None or name == "shares" else each[begin:end]
            for name, each in vars(self).items()
        }
        return Batch(**parts)


def delayed(codes: np.ndarray, config: LmConfig) -> np.ndarray:
    """Shift each row of windows by its delay, behind its initial token.

    codes: (B, 1 + n_q, T) ints. Returns (B, 1 + n_q, T + 1) int32: what the model reads, then its last targets.
    """
    B, rows, T = codes.shape
    tokens = np.empty((B, rows, T + 1), np.int32)
    for row, delay in enumerate(config.delays):
        held = min(delay, T)
        tokens[:, row, : 1 + held] = config.card if row else config.text_card
        tokens[:, row, 1 + held :] = codes[:, row, : T - held]
    return tokens


def make_batch(
    codes: np.ndarray,
    config: LmConfig,
    padding_weight: float = 0.5,
    semantic_weight: float = 100.0,
    conditions: Sequence[Mapping[str, Condition]] | None = None,
) -> Batch:
    """Prepare windows.

    codes: (B, 1 + n_q, T) ints, -1 for what is not there: it is read as nothing and has no loss.
    padding_weight: of text tokens that are no words. semantic_weight: of the first codebook beside each other one.
    conditions: of each window, as `LmConfig.conditions` takes and completes them.
    """
    tokens = delayed(codes, config)
    B, _, T = codes.shape
    weights = np.zeros((B, 1 + config.dep_q, T), np.float32)
    for row in range(1 + config.dep_q):
        delay = config.delays[row]
        weights[:, row, delay:] = tokens[:, row, 1 + delay :] != NO_TOKEN
    text = np.isin(tokens[:, :1, 1:], (config.text_padding_id, config.text_end_padding_id))
    weights[:, :1] *= np.where(text, padding_weight, 1.0)
    parts = [weights[:, :1], weights[:, 1:2], weights[:, 2:]]  # views
    sums = [float(part.sum(dtype=np.float64)) for part in parts]
    for part, total in zip(parts, sums, strict=True):
        part /= total or 1.0
    audio = semantic_weight * sums[1] + sums[2] or 1.0
    shares = [1.0, semantic_weight * sums[1] / audio, sums[2] / audio]
    rows = [config.condition_row(given) for given in conditions or [{}] * B] if config.conditioners else None
    return Batch(
        tokens,
        weights,
        np.array(shares, np.float32),
        conditions=None if rows is None else np.array(rows, np.int32),
    )


def losses(lm: Lm, batch: Mapping[str, mx.array], checkpointing: bool = False) -> tuple[mx.array, mx.array]:
    """Return the loss of a batch, and that of each of `parts_of` the model, (parts,) float32.

    batch: from `Batch.arrays`.
    checkpointing: compute layers again in the backward pass instead of keeping what is inside them.
    """
    around = checkpoint if checkpointing else _as_it_is
    tokens, weights = batch["tokens"], batch["weights"]
    rows = batch.get("conditions")
    condition = None if rows is None else lm.condition_provider.added_rows(rows)
    hidden = _temporal(lm, tokens[:, :, :-1], condition, around)
    if not lm.config.depth:
        parts = _listening(lm, hidden, batch["targets"], weights)
        return mx.sum(parts * batch["shares"]), parts
    targets = tokens[:, : weights.shape[1], 1:]
    read = mx.maximum(targets, 0)  # what is not there weighs nothing
    text = cross_entropy(lm.text_linear(hidden), read[:, 0])  # (B, T)
    spoken = weights[:, 1:]
    if (frames := batch.get("frames")) is not None:
        hidden = _chosen(hidden.swapaxes(1, 2), frames).swapaxes(1, 2)
        targets, read, spoken = (_chosen(each, frames) for each in (targets, read, spoken))
    audio = _depth(lm.depformer, hidden, targets, read, around)  # (B, dep_q, T or N)
    sums = mx.sum(audio * spoken, axis=(0, 2))  # (dep_q,)
    parts = mx.stack([mx.sum(text * weights[:, 0]), sums[0], mx.sum(sums[1:])])
    return mx.sum(parts * batch["shares"]), parts


def _listening(lm: Lm, hidden: mx.array, targets: mx.array, weights: mx.array) -> mx.array:
    """Return the loss of each of LISTENING_PARTS. hidden: (B, T, dim)."""
    outputs = [lm.text_linear, *(lm.extra_heads if lm.config.extra_heads else [])]
    sums = [
        mx.sum(cross_entropy(output(hidden), targets[:, row]) * weights[:, row])
        for row, output in enumerate(outputs)
    ]
    return mx.stack([sums[0], sum(sums[1:], mx.array(0.0))])


def cross_entropy(logits: mx.array, targets: mx.array) -> mx.array:
    """Return the cross entropy of each prediction in float32. logits: (..., card). targets: (...) ints."""
    if mx.default_device() == mx.cpu or not hasattr(mx.fast, "cross_entropy"):
        logits = logits.astype(mx.float32)  # there it sums in the type of the logits
    if hasattr(mx.fast, "cross_entropy"):  # from MLX 0.32.2 on
        return mx.fast.cross_entropy(logits, targets)
    return nn.losses.cross_entropy(logits, targets)


def _chosen(array: mx.array, frames: mx.array) -> mx.array:
    """array: (B, K, T). frames: (B, N). Returns (B, K, N)."""
    B, _, T = array.shape
    rows = (frames + T * mx.arange(B)[:, None]).reshape(-1)
    return array.swapaxes(1, 2).reshape(B * T, -1)[rows].reshape(B, -1, array.shape[1]).swapaxes(1, 2)


def _as_it_is(module: nn.Module, function: Callable[..., Any]) -> Callable[..., Any]:
    return function


def _temporal(lm: Lm, tokens: mx.array, condition: mx.array | None, around: Callable[..., Any]) -> mx.array:
    """As `Lm.temporal` from a fresh state, without one: nothing of a window is used again."""
    config, x = lm.config.transformer, lm.embed(tokens)
    if condition is not None:
        x = x + condition.astype(x.dtype)
    count = x.shape[1]
    if config.rope == "sin":
        x = x + rope.sinusoids(config, [0], count).astype(x.dtype)
    mask = _mask(count, config)
    for layer in lm.transformer.layers:
        x = around(layer, partial(_layer, layer))(x, mask)
    return lm.out_norm(x)


def _mask(count: int, config: TransformerConfig) -> mx.array:
    age = mx.arange(count)[:, None] - mx.arange(count)
    return (age >= 0) & (age < config.context)


def _layer(layer: TransformerLayer, x: mx.array, mask: mx.array) -> mx.array:
    """x: (B, T, dim). mask: (T, T) bool, True = attend."""
    queries, keys, values = layer.before_attention(x, (mx.zeros(1, mx.int32),))
    scale = queries.shape[-1] ** -0.5
    attended = mx.fast.scaled_dot_product_attention(queries, keys, values, scale=scale, mask=mask)
    return layer.after_attention(x, attended)


def _depth(
    depth: DepthTransformer, hidden: mx.array, targets: mx.array, read: mx.array, around: Callable[..., Any]
) -> mx.array:
    """Return the cross entropy of every code, (B, steps, T).

    All steps of a layer at once, where `DepthTransformer.logits` takes a step at a time: nothing is written into a
    window, and a frame's steps attend to each other in one call.
    targets: (B, 1 + steps, T), what each step follows, then what it is to say; read: the same without -1.
    """
    B, T, dim = hidden.shape
    slices = depth.slices
    flat = hidden.reshape(B * T, dim)
    x = [
        one.linear_in(flat) + one.emb(targets[:, step].reshape(B * T), hidden.dtype)
        for step, one in enumerate(slices)
    ]
    config = slices[0].transformer._config
    if config.rope == "sin":
        x = [each + rope.sinusoids(config, [step], 1)[0].astype(each.dtype) for step, each in enumerate(x)]
    for index in range(config.num_layers):
        x = around(depth, partial(_depth_layer, slices, index, config))(*x)
    every = [
        cross_entropy(one.linear_out(one.norm(each) if "norm" in one else each), read[:, step + 1].reshape(B * T))
        for step, (one, each) in enumerate(zip(slices, x, strict=True))
    ]
    return mx.stack([each.reshape(B, T) for each in every], axis=1)


def _depth_layer(slices: list[DepthSlice], index: int, config: TransformerConfig, *x: mx.array) -> list[mx.array]:
    """Run one layer of all steps. x: (frames, depth dim) each, and so what is returned."""
    layers = [one.transformer.layers[index] for one in slices]
    H, Hkv, D = config.num_heads, config.num_kv_heads, config.head_dim
    parts = [layer.self_attn.in_proj(layer.norm1(each)) for layer, each in zip(layers, x, strict=True)]
    qkv = mx.stack(parts, axis=1).reshape(-1, len(parts), H + 2 * Hkv, D).transpose(0, 2, 1, 3)
    qk, values = qkv[:, : H + Hkv], qkv[:, H + Hkv :]
    if config.rotates:
        traditional = config.rope == "rope"
        qk = mx.fast.rope(qk, D, traditional=traditional, base=config.max_period, scale=1.0, offset=0)
    attended = mx.fast.scaled_dot_product_attention(
        qk[:, :H], qk[:, H:], values, scale=D**-0.5, mask=_mask(len(parts), config)
    )
    return [
        layer.after_attention(each, attended[:, :, step : step + 1])
        for step, (layer, each) in enumerate(zip(layers, x, strict=True))
    ]
