"""Token -1 is exactly zero, in every kind of embedding."""

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from moshi_mlx.models.embedding import Embedding, QuantizedEmbedding


def filled(rows: int, dim: int, low_rank: int | None = None) -> Embedding:
    mx.random.seed(0)
    return Embedding(rows, dim, low_rank)


@pytest.mark.parametrize(("bits", "group_size"), [(4, 32), (8, 64), (8, 32)])
@pytest.mark.parametrize("low_rank", [None, 64])
def test_minus_one_is_exactly_zero_and_other_rows_are_not(
    bits: int, group_size: int, low_rank: int | None
) -> None:
    holder = nn.Module()
    holder.emb = filled(20, 64, low_rank)
    ids = mx.array([[-1, 0, 19, -1]])
    dense = np.array(holder.emb(ids))
    nn.quantize(holder, group_size=group_size, bits=bits)
    quantized = np.array(holder.emb(ids))
    for rows in (dense, quantized):
        assert (rows[0, [0, 3]] == 0).all()
        assert (np.abs(rows[0, [1, 2]]).max(axis=-1) > 0.1).all()
    assert np.abs(quantized - dense).max() < 0.1 * np.abs(dense).max()


def test_quantized_rows_equal_the_dequantized_table() -> None:
    table = filled(20, 64)
    quantized = table.to_quantized(group_size=32, bits=4)
    assert isinstance(quantized, QuantizedEmbedding)
    expected = mx.dequantize(quantized.weight, quantized.scales, quantized.biases, group_size=32, bits=4)
    assert mx.array_equal(quantized(mx.arange(20)), expected)
