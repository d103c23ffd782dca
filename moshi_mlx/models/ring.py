"""Where one layer's keys and values lie: a ring in the activations' type, or one in int8, half the bytes."""

from __future__ import annotations

from typing import NamedTuple

import mlx.core as mx

from moshi_mlx.errors import ConfigError

BITS = 8  # fewer are too coarse: 4 bits change attention outputs by a sixth


class Quantized(NamedTuple):
    """Keys or values as `mx.quantize` gives them: (B, kv heads, n, ...) each."""

    weight: mx.array
    scales: mx.array
    biases: mx.array


Stored = mx.array | Quantized


class Ring:
    """Keys and values, (2 x B, kv heads, slots, head dim), the keys of all rows first: one write stores both.

    Were keys and values of a row side by side, MLX's attention on a GPU would copy all of them for several rows:
    it wants the heads of one row to follow those of another.
    """

    def __init__(self, batch: int, kv_heads: int, slots: int, head_dim: int, dtype: mx.Dtype) -> None:
        self.slots = slots
        self.held = mx.zeros((2 * batch, kv_heads, slots, head_dim), dtype)

    def arrays(self) -> list[mx.array]:
        return [self.held]

    def write(self, rows: slice, slots: slice, part: mx.array) -> None:
        """part: (rows, kv heads, slots, head dim); of the rows, the first half are keys."""
        self.held[rows, :, slots] = part

    def read(self, filled: int) -> tuple[mx.array, mx.array]:
        """Keys and values of the first `filled` slots."""
        held = self.held if filled == self.slots else self.held[:, :, :filled]
        keys, values = mx.split(held, 2)
        return keys, values

    def read_dense(self, filled: int) -> tuple[mx.array, mx.array]:
        """The same, never quantized."""
        return self.read(filled)


class QuantizedRing:
    """The same in int8, quantized in groups along the head dimension: at most 0.54 of bfloat16's bytes."""

    def __init__(self, batch: int, kv_heads: int, slots: int, head_dim: int, dtype: mx.Dtype) -> None:
        self.slots = slots
        self.group = next((size for size in (64, 32) if head_dim % size == 0), 0)
        if not self.group:
            raise ConfigError(
                f"an int8 window needs heads of a multiple of 32 channels, this model has {head_dim}"
            )
        zeros = mx.zeros((2 * batch, kv_heads, slots, head_dim), dtype)
        self.held = list(mx.quantize(zeros, self.group, BITS))

    def arrays(self) -> list[mx.array]:
        return list(self.held)

    def write(self, rows: slice, slots: slice, part: mx.array) -> None:
        """part: (rows, kv heads, slots, head dim); of the rows, the first half are keys."""
        for held, new in zip(self.held, mx.quantize(part, self.group, BITS), strict=True):
            held[rows, :, slots] = new

    def read(self, filled: int) -> tuple[Quantized, Quantized]:
        """Keys and values of the first `filled` slots."""
        halves = [mx.split(held[:, :, :filled], 2) for held in self.held]
        return Quantized(*(keys for keys, _ in halves)), Quantized(*(values for _, values in halves))

    def read_dense(self, filled: int) -> tuple[mx.array, mx.array]:
        """The same, dequantized."""
        held = mx.dequantize(*(held[:, :, :filled] for held in self.held), group_size=self.group, bits=BITS)
        keys, values = mx.split(held, 2)
        return keys, values


def attend(queries: mx.array, keys: Stored, values: Stored, mask: mx.array | None) -> mx.array:
    """queries (B, H, T, D), keys and values (B, Hkv, n, D), mask None or (1 | B, 1, T, n) -> (B, H, T, D)."""
    if isinstance(keys, Quantized):
        assert isinstance(values, Quantized)
        return _attend_quantized(queries, keys, values, mask)
    assert not isinstance(values, Quantized)
    if keys.shape[2] == 1 and mask is None and queries.shape[1] == keys.shape[1]:
        return values  # whatever its score, the only key gets all the weight
    return mx.fast.scaled_dot_product_attention(queries, keys, values, scale=queries.shape[-1] ** -0.5, mask=mask)


def _attend_quantized(queries: mx.array, keys: Quantized, values: Quantized, mask: mx.array | None) -> mx.array:
    B, H, T, D = queries.shape
    Hkv = keys.weight.shape[1]
    group = D // keys.scales.shape[-1]
    # Query heads that share a key head become more queries of that head.
    queries = (queries * D**-0.5).reshape(B, Hkv, H // Hkv * T, D)
    scores = mx.quantized_matmul(queries, *keys, transpose=True, group_size=group, bits=BITS)
    scores = scores.reshape(B, Hkv, H // Hkv, T, -1)
    if mask is not None:
        scores = mx.where(mask[:, :, None], scores, mx.finfo(scores.dtype).min)
    weights = mx.softmax(scores, axis=-1, precise=True).reshape(B, Hkv, H // Hkv * T, -1)
    out = mx.quantized_matmul(weights, *values, transpose=False, group_size=group, bits=BITS)
    return out.reshape(B, H, T, D)
