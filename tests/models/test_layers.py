"""Projections with a kept transpose multiply as without; token -1 is exactly zero in every kind of embedding."""

import io
from copy import deepcopy

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten

from moshi_mlx.models.layers import (
    ROW_ARRAYS,
    Embedding,
    Linear,
    QuantizedEmbedding,
    dequantized,
    keep_transposes,
    lay_for_products,
    recast,
)
from moshi_mlx.weights.quantization import NAMED, SCHEMES, Scheme
from tests.memory import active_memory


@pytest.fixture
def layers() -> nn.Module:
    mx.random.seed(3)
    layers = nn.Sequential(Linear(64, 96), Linear(96, 32))
    mx.eval(layers.parameters())
    return layers


def primitives(output: mx.array) -> int:
    text = io.StringIO()
    mx.export_to_dot(text, output)
    return text.getvalue().count("shape=rectangle")


@pytest.mark.parametrize("shape", [(64,), (3, 64), (2, 5, 64)])
def test_a_kept_transpose_gives_the_same_to_the_bit(layers: nn.Module, shape: tuple[int, ...]) -> None:
    x = mx.random.normal(shape)
    before = np.array(layers(x))
    keep_transposes(layers)
    np.testing.assert_array_equal(np.array(layers(x)), before)


def test_a_kept_transpose_needs_no_memory_and_one_operation_less(layers: nn.Module) -> None:
    x = mx.random.normal((1, 64))
    mx.eval(x)
    names, asked = [name for name, _ in tree_flatten(layers.parameters())], primitives(layers(x))
    held = active_memory()
    keep_transposes(layers)
    assert mx.get_active_memory() - held < 64 * 64, "less than a copy of any weight"
    assert [name for name, _ in tree_flatten(layers.parameters())] == names
    assert primitives(layers(x)) == asked - 2, "no transpose is made any more"


def test_matrices_laid_for_products_are_the_same_and_need_no_memory(layers: nn.Module) -> None:
    x = mx.random.normal((3, 64))
    before = {name: np.array(array) for name, array in tree_flatten(layers.parameters())}
    expected, held = np.array(layers(x)), active_memory()
    lay_for_products(layers)
    assert active_memory() - held < 64 * 64, "less than a copy of any weight"
    for name, array in tree_flatten(layers.parameters()):
        np.testing.assert_array_equal(np.array(array), before[name])
        assert isinstance(array, mx.array)
        assert np.asarray(array.T).flags.c_contiguous == (mx.default_device() == mx.cpu)
    np.testing.assert_allclose(np.array(layers(x)), expected, rtol=1e-5, atol=1e-5)


def test_layers_with_kept_transposes_can_be_quantized(layers: nn.Module) -> None:
    x = mx.random.normal((1, 64))
    keep_transposes(layers)
    dense = np.array(layers(x))
    nn.quantize(layers, group_size=32, bits=8)
    quantized = np.array(layers(x))
    assert 0 < np.abs(quantized - dense).max() < 0.05 * np.abs(dense).max()


def test_a_weight_that_is_replaced_later_is_used() -> None:
    layer = Linear(64, 96)
    layer.keep_transpose()
    other = deepcopy(layer)
    for one, factor in ((layer, 1), (other, 2)):
        one.weight = mx.full((96, 64), factor)
        np.testing.assert_array_equal(np.array(one(mx.ones((1, 64)))), np.full((1, 96), 64 * factor))


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
    dense = np.array(holder.emb(ids, mx.float32))
    nn.quantize(holder, group_size=group_size, bits=bits)
    quantized = np.array(holder.emb(ids, mx.float32))
    for rows in (dense, quantized):
        assert (rows[0, [0, 3]] == 0).all()
        assert (np.abs(rows[0, [1, 2]]).max(axis=-1) > 0.1).all()
    assert np.abs(quantized - dense).max() < 0.1 * np.abs(dense).max()


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16, mx.float16])
@pytest.mark.parametrize("scheme", [SCHEMES["q4"], SCHEMES["q8"], NAMED["mxfp4"], NAMED["nvfp4"]], ids=str)
def test_quantized_rows_are_the_tables_in_the_type_of_the_activations(scheme: Scheme, dtype: mx.Dtype) -> None:
    quantized = QuantizedEmbedding(filled(20, 64).weight.astype(mx.bfloat16), **scheme.block())
    arrays = [quantized[name] for name in ROW_ARRAYS if name in quantized]
    rows, expected = quantized(mx.arange(20), dtype), dequantized(arrays, **scheme.block())
    assert rows.dtype == dtype
    off = mx.abs(rows.astype(mx.float32) - expected).max() / mx.abs(expected).max()
    assert off.item() <= {mx.float32: 0, mx.bfloat16: 2**-7, mx.float16: 2**-10}[dtype]


def test_dense_rows_are_in_the_type_of_the_activations_before_the_layer_that_widens_them() -> None:
    table = filled(20, 64, low_rank=32)
    recast(table, mx.bfloat16, (mx.float32,))
    rows = table.weight.astype(mx.float32) @ table.low_rank.weight.astype(mx.float32).T
    np.testing.assert_array_equal(np.array(table(mx.arange(20), mx.float32)), np.array(rows))
