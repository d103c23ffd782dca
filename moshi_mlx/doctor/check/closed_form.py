"""What is right: the formulas of Moshi's and Mimi's operations in NumPy, whatever MLX makes of them.

Arrays are float32 or float64, channels last; nothing here knows of rings, segments or quantized products.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from moshi_mlx.models.config import TransformerConfig

Array = np.ndarray

_FP4 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float32)
_ERF = np.vectorize(math.erf, otypes=[float])


def rms_norm(x: Array, weight: Array, eps: float = 1e-8) -> Array:
    """Divide by the root of the mean square; (..., dim)."""
    x = x.astype(np.float64)
    return x / np.sqrt(np.mean(x**2, -1, keepdims=True) + eps) * weight


def layer_norm(x: Array, weight: Array, bias: Array, eps: float = 1e-5) -> Array:
    """Take the mean away, divide by the deviation; (..., dim)."""
    x = x.astype(np.float64)
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps) * weight + bias


def silu(x: Array) -> Array:
    """x times its logistic."""
    return x / (1 + np.exp(-x.astype(np.float64)))


def gelu(x: Array) -> Array:
    """The exact one: x times the share of a normal distribution that lies below it."""
    return x * 0.5 * (1 + _ERF(x.astype(np.float64) / math.sqrt(2)))


def elu(x: Array) -> Array:
    """x where it is positive, e^x - 1 elsewhere."""
    return np.where(x > 0, x, np.expm1(np.minimum(x.astype(np.float64), 0)))


def softmax(x: Array) -> Array:
    """Along the last axis; rows of -inf only do not occur."""
    weights = np.exp(x - x.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def rotate(x: Array, positions: Array, kind: str, max_period: float) -> Array:
    """Rotate pairs of channels: neighbours ("rope"), or those half a head apart ("rope_concat").

    x: (B, H, T, D). positions: (T,), or (B, T).
    """
    if kind not in ("rope", "rope_concat"):
        return x
    half = x.shape[-1] // 2
    turns = np.asarray(positions, np.float64)[..., None] * max_period ** (-np.arange(half) / half)
    turns = turns[:, None] if turns.ndim == 3 else turns
    pairs = x.reshape(*x.shape[:-1], half, 2) if kind == "rope" else np.stack(np.split(x, 2, -1), -1)
    turned = (pairs[..., 0] + 1j * pairs[..., 1]) * np.exp(1j * turns)
    if kind == "rope_concat":
        return np.concatenate([turned.real, turned.imag], -1)
    return np.stack([turned.real, turned.imag], -1).reshape(x.shape)


def attend(queries: Array, keys: Array, values: Array, allowed: Array | None = None) -> Array:
    """Softmax of scaled products; (B, H, T, D) and (B, Hkv, n, D), allowed (B | 1, T, n) bool."""
    shared = queries.shape[1] // keys.shape[1]
    if shared > 1:
        keys, values = np.repeat(keys, shared, 1), np.repeat(values, shared, 1)
    scores = queries @ keys.swapaxes(2, 3) / math.sqrt(queries.shape[-1])
    if allowed is not None:
        scores = np.where(allowed[:, None], scores, -np.inf)
    return softmax(scores) @ values


def window(count: int, context: int, last: int, running: Array | None = None) -> Array:
    """Which of `count` positions each of the `last` ones sees, (B | 1, last, count).

    Itself, and others in its window at which its row ran. running: (B, count) bool, all unless given.
    """
    age = np.arange(count - last, count)[:, None] - np.arange(count)
    seen = ((age >= 0) & (age < context))[None]
    return seen if running is None else (seen & running[:, None]) | (age == 0)[None]


def transformer(weights: Mapping[str, Array], config: TransformerConfig, x: Array, start: int = 0) -> Array:
    """Run all layers over a whole stream at once. x: (B, T, dim). weights: by the checkpoint's names."""
    B, T, _ = x.shape
    H, Hkv, D = config.num_heads, config.num_kv_heads, config.head_dim
    positions = start + np.arange(T)
    for index in range(config.num_layers):
        of = {key.removeprefix(f"layers.{index}."): array for key, array in weights.items()}

        def norm(name: str, x: Array, of: Mapping[str, Array] = of) -> Array:
            if config.norm == "layer_norm":
                return layer_norm(x, of[f"{name}.weight"], of[f"{name}.bias"])
            return rms_norm(x, of[f"{name}.weight"])

        def scaled(name: str, x: Array, of: Mapping[str, Array] = of) -> Array:
            return x * of[f"{name}.scale"] if config.layer_scale else x

        qkv = norm("norm1", x).astype(np.float32) @ of["self_attn.in_proj.weight"].T
        heads = qkv.reshape(B, T, H + 2 * Hkv, D).swapaxes(1, 2)
        q, k, v = np.split(heads, [H, H + Hkv], axis=1)
        q, k = (rotate(part, positions, config.rope, config.max_period) for part in (q, k))
        attended = attend(q, k, v, window(T, config.context, T)).swapaxes(1, 2).reshape(B, T, -1)
        x = x + scaled("layer_scale_1", attended.astype(np.float32) @ of["self_attn.out_proj.weight"].T)
        hidden = norm("norm2", x).astype(np.float32)
        if config.gated:
            gate, value = np.split(hidden @ of["gating.linear_in.weight"].T, 2, -1)
            update = (silu(gate) * value).astype(np.float32) @ of["gating.linear_out.weight"].T
        else:
            update = gelu(hidden @ of["linear1.weight"].T).astype(np.float32) @ of["linear2.weight"].T
        x = x + scaled("layer_scale_2", update)
    return x


def dequantize(weight: Array, scales: Array, biases: Array | None, bits: int, group: int) -> Array:
    """Return the numbers that packed levels stand for. weight: (rows, words) uint32, the lowest bits first.

    scales, biases: (rows, groups) float32; without biases, 4-bit floats times powers of two (uint8 exponents).
    """
    shifts = np.arange(0, 32, bits, dtype=np.uint32)
    levels = (weight[..., None] >> shifts) & np.uint32((1 << bits) - 1)
    levels = levels.reshape(len(weight), -1, group)
    if biases is not None:
        return (levels * scales[..., None] + biases[..., None]).reshape(len(weight), -1)
    signed = np.where(levels & 8, -1, 1) * _FP4[levels & 7]
    return (signed * np.exp2(scales.astype(np.float32) - 127)[..., None]).reshape(len(weight), -1)


def convolution(x: Array, kernel: Array, bias: Array | None, stride: int = 1, dilation: int = 1) -> Array:
    """Causal: zeros stand before a stream. x: (B, T, in). kernel: (out, in, k), as published."""
    size = kernel.shape[2]
    left = (size - 1) * dilation + 1 - stride
    x = np.pad(x, [(0, 0), (left, 0), (0, 0)])
    count = (x.shape[1] - left) // stride
    out = np.zeros((len(x), count, len(kernel)))
    for tap in range(size):
        out += x[:, tap * dilation : tap * dilation + (count - 1) * stride + 1 : stride] @ kernel[:, :, tap].T
    return out if bias is None else out + bias


def transposed_convolution(x: Array, kernel: Array, bias: Array | None, stride: int) -> Array:
    """Causal. x: (B, T, in). kernel: (in, out, k), as published, or (channels, 1, k): each channel by itself."""
    B, T, C = x.shape
    alone = kernel.shape[1] == 1 and C > 1
    size = kernel.shape[2]
    out = np.zeros((B, T * stride + size, C if alone else kernel.shape[1]))
    for tap in range(size):
        part = x * kernel[:, 0, tap] if alone else x @ kernel[:, :, tap]
        out[:, tap : tap + T * stride : stride] += part
    out = out[:, : T * stride]
    return out if bias is None else out + bias


def nearest(x: Array, entries: Array) -> tuple[Array, Array]:
    """Return the squared distances to all entries of a codebook, and the smallest. x: (n, dim)."""
    distances = ((x**2).sum(-1)[:, None] - 2 * x.astype(np.float64) @ entries.T) + (entries**2).sum(-1)
    return distances, distances.min(-1)


def filtered(logits: Array, temperature: float, top_k: int = 0, top_p: float = 0.0, min_p: float = 0.0) -> Array:
    """Return one row of logits over the temperature, -inf for those that the filters drop. logits: (V,)."""
    logits = logits.astype(np.float64) / temperature
    if top_k:
        logits = np.where(logits >= np.sort(logits)[-top_k], logits, -np.inf)
    if top_p:
        order = np.argsort(-logits, kind="stable")
        before = np.cumsum(softmax(logits)[order]) - softmax(logits)[order]
        logits = np.where(logits >= logits[order[before <= top_p]].min(), logits, -np.inf)
    if min_p:
        logits = np.where(logits >= logits.max() + math.log(min_p), logits, -np.inf)
    return logits


def some_rows(count: int, most: int) -> Array:
    """Return at most `most` of `count` rows: the first, the last, and some between."""
    if count <= most:
        return np.arange(count)
    third = most // 3
    between = third + np.arange(1, most - 2 * third + 1) * (count - 2 * third) // (most - 2 * third + 1)
    return np.unique(np.concatenate([np.arange(third), between, np.arange(count - third, count)]))
