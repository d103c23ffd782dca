"""Streaming convolutions against MLX's own, which see the whole signal at once."""

from itertools import pairwise

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.models.mimi import lay_out
from moshi_mlx.models.seanet import Downsample, StreamingConv1d, StreamingConvTranspose1d, Upsample

LENGTH = 48
CHUNKS = ([48], [12] * 4, [24, 12, 12], [12, 36])


def random(*shape: int) -> mx.array:
    return mx.array(np.random.RandomState(sum(shape)).standard_normal(shape).astype(np.float32))


def run(layer, x: mx.array, chunks: list[int]) -> mx.array:
    state = layer.new_state(x.shape[0])
    edges = np.cumsum([0, *chunks])
    return mx.concatenate([layer(x[:, a:b], state) for a, b in pairwise(edges)], axis=1)


def assert_close(a: mx.array, b: mx.array) -> None:
    np.testing.assert_allclose(np.array(a), np.array(b), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("chunks", CHUNKS)
@pytest.mark.parametrize(
    ("kernel", "stride", "dilation"), [(7, 1, 1), (3, 1, 2), (8, 4, 1), (12, 6, 1), (1, 1, 1), (4, 4, 1)]
)
def test_convolution_continues_a_stream(kernel: int, stride: int, dilation: int, chunks: list[int]) -> None:
    layer, weight, x = StreamingConv1d(5, 7, kernel, stride, dilation), random(7, 5, kernel), random(2, LENGTH, 5)
    layer.conv.conv.weight, layer.conv.conv.bias = lay_out("conv.weight", weight), random(7)
    padded = mx.pad(x, [(0, 0), ((kernel - 1) * dilation + 1 - stride, 0), (0, 0)])
    expected = mx.conv1d(padded, weight.transpose(0, 2, 1), stride, dilation=dilation) + random(7)
    assert_close(run(layer, x, chunks), expected)


@pytest.mark.parametrize("chunks", [*CHUNKS, [1] * 48])
@pytest.mark.parametrize("stride", [2, 5])
def test_transposed_convolution_continues_a_stream(stride: int, chunks: list[int]) -> None:
    layer, weight, x = StreamingConvTranspose1d(6, 4, stride), random(6, 4, 2 * stride), random(2, LENGTH, 6)
    layer.convtr.convtr.weight, layer.convtr.convtr.bias = lay_out("convtr.weight", weight), random(4)
    expected = mx.conv_transpose1d(x, weight.transpose(1, 2, 0), stride)[:, : LENGTH * stride] + random(4)
    assert_close(run(layer, x, chunks), expected)


@pytest.mark.parametrize("chunks", CHUNKS)
def test_downsampling_begins_as_if_the_first_input_had_always_been_there(chunks: list[int]) -> None:
    layer, weight, x = Downsample(6, 2), random(6, 6, 4), random(2, LENGTH, 6)
    layer.conv.conv.conv.weight = lay_out("conv.weight", weight)
    padded = mx.concatenate([x[:, :1], x[:, :1], x], axis=1)
    assert_close(run(layer, x, chunks), mx.conv1d(padded, weight.transpose(0, 2, 1), 2))


@pytest.mark.parametrize("chunks", [*CHUNKS, [1] * 48])
def test_upsampling_treats_each_channel_by_itself(chunks: list[int]) -> None:
    layer, weight, x = Upsample(6, 2), random(6, 1, 4), random(2, LENGTH, 6)
    layer.convtr.convtr.convtr.weight = lay_out("upsample.convtr.convtr.convtr.weight", weight)
    channels = [
        mx.conv_transpose1d(x[:, :, c : c + 1], weight[c : c + 1].transpose(1, 2, 0), 2)[:, : 2 * LENGTH]
        for c in range(6)
    ]
    assert_close(run(layer, x, chunks), mx.concatenate(channels, axis=2))


def test_a_reset_row_is_fresh_and_its_neighbour_goes_on() -> None:
    layer, weight, x = Downsample(6, 2), random(6, 6, 4), random(2, LENGTH, 6)
    layer.conv.conv.conv.weight = lay_out("conv.weight", weight)
    state = layer.new_state(2)
    assert state is not None
    layer(x, state)
    undisturbed = layer.new_state(2)
    layer(x, undisturbed)
    state.reset_row(1)
    again, goes_on = layer(x, state), layer(x, undisturbed)
    assert_close(again[0], goes_on[0])
    assert_close(again[1], layer(x, layer.new_state(2))[1])
    assert np.abs(np.array(again[1] - goes_on[1])).max() > 0.1
