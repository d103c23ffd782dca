"""Token embeddings in which id -1, "nothing here", is exactly zero, quantized or not.

Source: moshi/models/lm_utils.py `ScaledEmbedding`.
"""

import mlx.core as mx
import mlx.nn as nn

from moshi_mlx.models.linear import Linear


class Embedding(nn.Module):
    """A look-up table; with `low_rank` its rows are short and a linear layer brings them to `dim`."""

    def __init__(self, rows: int, dim: int, low_rank: int | None = None) -> None:
        super().__init__()
        self.weight = mx.random.normal((rows, low_rank or dim)) * (low_rank or dim) ** -0.5
        if low_rank:
            self.low_rank = Linear(low_rank, dim)
        self._has_low_rank = bool(low_rank)

    def __call__(self, ids: mx.array) -> mx.array:
        """ids: any shape, int32, -1 or a row. Returns (*ids.shape, dim) in the weights' type."""
        rows = _zero_where_negative(ids, self.weight[ids])
        return self.low_rank(rows) if self._has_low_rank else rows

    def to_quantized(
        self, group_size: int | None = None, bits: int | None = None, mode: str = "affine", **_: object
    ) -> "QuantizedEmbedding":
        """The same table quantized; `mlx.nn.quantize` calls this."""
        rows, dim = self.weight.shape
        quantized = QuantizedEmbedding(rows, dim, group_size or 64, bits or 4, mode)
        quantized.weight, quantized.scales, *biases = mx.quantize(
            self.weight, group_size or 64, bits or 4, mode=mode
        )
        if biases:
            quantized.biases = biases[0]
        return quantized


class QuantizedEmbedding(nn.Module):
    """A look-up table that stays quantized: only the rows asked for are dequantized."""

    def __init__(self, rows: int, dim: int, group_size: int, bits: int, mode: str = "affine") -> None:
        super().__init__()
        self.group_size, self.bits, self.mode = group_size, bits, mode
        self.weight, self.scales, *biases = mx.quantize(mx.zeros((rows, dim)), group_size, bits, mode=mode)
        if biases:
            self.biases = biases[0]
        self.freeze()

    def __call__(self, ids: mx.array) -> mx.array:
        """ids: any shape, int32, -1 or a row. Returns (*ids.shape, dim) in the scales' type."""
        biases = self.get("biases")
        rows = mx.dequantize(
            self.weight[ids],
            scales=self.scales[ids],
            biases=None if biases is None else biases[ids],
            group_size=self.group_size,
            bits=self.bits,
            mode=self.mode,
        )
        return _zero_where_negative(ids, rows)


def _zero_where_negative(ids: mx.array, rows: mx.array) -> mx.array:
    return mx.where(ids[..., None] >= 0, rows, mx.zeros((), rows.dtype))
