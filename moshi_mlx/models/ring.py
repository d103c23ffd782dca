"""Where the keys and values of one layer lie: as they are, or in int8. Not here: which positions they are of.

Arrays are twice as long as the batch: the keys of all rows, then the values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import mlx.core as mx

from moshi_mlx.errors import ConfigError

BITS = 8  # of a quantized window; fewer are too coarse: 4 bits change attention outputs by a sixth


class Quantized(NamedTuple):
    """Keys or values as `mx.quantize` gives them: (B, kv heads, n, ...) each."""

    weight: mx.array
    scales: mx.array
    biases: mx.array


Stored = mx.array | Quantized


class Ring:
    """Keys and values of one layer, (2 B, kv heads, slots, head dim), the keys of all rows first.

    One write stores both. Were keys and values of a row side by side, MLX's attention on a GPU would copy all of
    them for several rows: it wants the heads of one row to follow those of another.
    """

    def __init__(self, batch: int, kv_heads: int, slots: int, head_dim: int, dtype: mx.Dtype) -> None:
        self.slots = slots
        self.held = mx.zeros((2 * batch, kv_heads, slots, head_dim), dtype)

    def arrays(self) -> list[mx.array]:
        """Return every array held."""
        return [self.held]

    def hold(self, arrays: Sequence[mx.array]) -> None:
        """Hold these instead, as `arrays` gives them; of any batch."""
        (self.held,) = arrays

    def write(self, rows: slice, slots: slice, part: mx.array) -> None:
        """part: (rows, kv heads, slots, head dim); rows below B are keys, the others values."""
        self.held[rows, :, slots] = part

    def read(self, filled: int) -> tuple[mx.array, mx.array]:
        """Return keys and values of the first `filled` slots, (B, kv heads, filled, head dim) each."""
        held = self.held if filled == self.slots else self.held[:, :, :filled]
        keys, values = mx.split(held, 2)
        return keys, values

    def keys(self, slots: slice) -> mx.array:
        """Return the keys of some slots, (B, kv heads, slots, head dim)."""
        return self.held[: len(self.held) // 2, :, slots]

    def read_dense(self, filled: int) -> tuple[mx.array, mx.array]:
        """Return the same as `read`: nothing is quantized."""
        return self.read(filled)


class QuantizedRing:
    """The same in int8, quantized in groups along the head dimension: at most 0.54 of bfloat16's bytes."""

    def __init__(self, batch: int, kv_heads: int, slots: int, head_dim: int, dtype: mx.Dtype) -> None:
        self.group = next((size for size in (64, 32) if head_dim % size == 0), 0)
        if not self.group:
            raise ConfigError(
                f"an int8 window needs heads of a multiple of 32 channels; this model's heads have {head_dim}"
            )
        zeros = mx.zeros((2 * batch, kv_heads, slots, head_dim), dtype)
        self.held = list(mx.quantize(zeros, self.group, BITS))

    def arrays(self) -> list[mx.array]:
        """Return every array held."""
        return list(self.held)

    def hold(self, arrays: Sequence[mx.array]) -> None:
        """Hold these instead, as `arrays` gives them; of any batch."""
        self.held = list(arrays)

    def write(self, rows: slice, slots: slice, part: mx.array) -> None:
        """part: (rows, kv heads, slots, head dim); rows below B are keys, the others values."""
        for held, new in zip(self.held, mx.quantize(part, self.group, BITS), strict=True):
            held[rows, :, slots] = new

    def read(self, filled: int) -> tuple[Quantized, Quantized]:
        """Return keys and values of the first `filled` slots."""
        halves = [mx.split(held[:, :, :filled], 2) for held in self.held]
        return Quantized(*(keys for keys, _ in halves)), Quantized(*(values for _, values in halves))

    def keys(self, slots: slice) -> mx.array:
        """Return the keys of some slots, dequantized, (B, kv heads, slots, head dim)."""
        rows = len(self.held[0]) // 2
        return mx.dequantize(*(held[:rows, :, slots] for held in self.held), group_size=self.group, bits=BITS)

    def read_dense(self, filled: int) -> tuple[mx.array, mx.array]:
        """Return the same dequantized, (B, kv heads, filled, head dim) each."""
        held = mx.dequantize(*(held[:, :, :filled] for held in self.held), group_size=self.group, bits=BITS)
        keys, values = mx.split(held, 2)
        return keys, values
