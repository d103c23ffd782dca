"""Projections whose transpose is kept: the same products from the same memory, with less to do."""

import io
from copy import deepcopy

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten

from moshi_mlx.models.linear import Linear, settle


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
def test_settled_layers_give_the_same_to_the_bit(layers: nn.Module, shape: tuple[int, ...]) -> None:
    x = mx.random.normal(shape)
    before = np.array(layers(x))
    settle(layers)
    np.testing.assert_array_equal(np.array(layers(x)), before)


def test_settled_layers_hold_the_same_and_ask_for_less(layers: nn.Module) -> None:
    x = mx.random.normal((1, 64))
    mx.eval(x)
    names, asked = [name for name, _ in tree_flatten(layers.parameters())], primitives(layers(x))
    held = mx.get_active_memory()
    settle(layers)
    assert mx.get_active_memory() == held
    assert [name for name, _ in tree_flatten(layers.parameters())] == names
    assert primitives(layers(x)) == asked - 2, "no transpose is made any more"


def test_settled_layers_can_still_be_quantized(layers: nn.Module) -> None:
    x = mx.random.normal((1, 64))
    settle(layers)
    dense = np.array(layers(x))
    nn.quantize(layers, group_size=32, bits=8)
    quantized = np.array(layers(x))
    assert 0 < np.abs(quantized - dense).max() < 0.05 * np.abs(dense).max()


def test_a_weight_that_is_replaced_later_is_used() -> None:
    layer = Linear(64, 96)
    layer.settle()
    other = deepcopy(layer)
    for one, factor in ((layer, 1), (other, 2)):
        one.weight = mx.full((96, 64), factor)
        np.testing.assert_array_equal(np.array(one(mx.ones((1, 64)))), np.full((1, 96), 64 * factor))
