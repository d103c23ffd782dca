"""Cases of the codec: every convolution of its encoder and decoder, the resampling, the codebooks."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import mlx.core as mx
import numpy as np

from moshi_mlx.doctor.check import closed_form
from moshi_mlx.doctor.check.comparison import Case, Noise, exact, numbers
from moshi_mlx.doctor.check.layers import Made
from moshi_mlx.doctor.check.shapes import Shapes
from moshi_mlx.frames import FRAME_SAMPLES
from moshi_mlx.models.mimi import Codebook, lay_out
from moshi_mlx.models.seanet import (
    Downsample,
    ResnetBlock,
    SeanetDecoder,
    SeanetEncoder,
    StreamingConv1d,
    StreamingConvTranspose1d,
    Upsample,
)

FRAMES = 2  # given one by one, so that the second needs what is left of the first


def cases(shapes: Shapes) -> Iterator[Case]:
    """List them, in the order in which a frame meets them."""
    noise = Noise(4)
    mimi, config = shapes.mimi, shapes.mimi.seanet
    for name, network, length in (
        ("encoder", SeanetEncoder(config), FRAME_SAMPLES),
        ("decoder", SeanetDecoder(config), mimi.positions_per_frame),
    ):
        for layer in network.model:
            if isinstance(layer, StreamingConv1d):
                detail = f"{name}, {_described(layer)}, {length} at a time"
                yield Case("convolution", detail, exact(), partial(_convolution, layer, length, noise))
                length //= layer._stride
            elif isinstance(layer, StreamingConvTranspose1d):
                detail = f"{name}, {layer._inputs} channels, stride {layer._stride}, {length} at a time"
                yield Case("transposed convolution", detail, exact(), partial(_transposed, layer, length, noise))
                length *= layer._stride
            elif isinstance(layer, ResnetBlock):
                detail = f"{name}, {_described(layer.block[1])}, {length} at a time"
                yield Case("residual block", detail, exact(), partial(_block, layer, length, noise))
    dim, stride = config.dimension, mimi.positions_per_frame
    yield Case("downsampling", f"{dim} channels, by {stride}", exact(), partial(_downsample, dim, stride, noise))
    yield Case("upsampling", f"{dim} channels, by {stride}", exact(), partial(_upsample, dim, stride, noise))
    detail = f"{mimi.bins} entries of {mimi.codebook_dim}"
    yield Case("codebook", detail, exact(), partial(_codebook, mimi.bins, mimi.codebook_dim, noise))


def _described(layer: StreamingConv1d) -> str:
    outputs = layer.conv.conv["weight"].shape[0]
    more = f", stride {layer._stride}" if layer._stride > 1 else ""
    more += f", dilation {layer._dilation}" if layer._dilation > 1 else ""
    return f"{layer._inputs} to {outputs} channels, kernel {layer._kernel}{more}"


def _stream(
    layer: StreamingConv1d | StreamingConvTranspose1d | ResnetBlock | Downsample | Upsample, x: np.ndarray
) -> np.ndarray:
    """x: (B, FRAMES * n, channels), given in FRAMES parts."""
    state = layer.new_state(len(x))
    parts = [numbers(layer(mx.array(part), state)) for part in np.split(x, FRAMES, axis=1)]  # type: ignore[arg-type]
    return np.concatenate(parts, axis=1)


def _fill(layer: StreamingConv1d, noise: Noise) -> tuple[np.ndarray, np.ndarray | None]:
    """Give a convolution random weights. Returns them as a published file has them: (out, in, k), and the bias."""
    linear, kernel = layer.conv.conv, layer._kernel
    outputs = linear["weight"].shape[0]
    published = noise.normal(outputs, layer._inputs, kernel) * (layer._inputs * kernel) ** -0.5
    linear["weight"] = lay_out("conv.conv.weight", mx.array(published))
    if "bias" not in linear:
        return published, None
    bias = 0.1 * noise.normal(outputs)
    linear["bias"] = mx.array(bias)
    return published, bias


def _convolution(layer: StreamingConv1d, length: int, noise: Noise) -> Made:
    kernel, bias = _fill(layer, noise)
    x = noise.normal(2, FRAMES * length, layer._inputs)
    return _stream(layer, x), closed_form.convolution(x, kernel, bias, layer._stride, layer._dilation)


def _transposed(layer: StreamingConvTranspose1d, length: int, noise: Noise) -> Made:
    inner, inputs, stride = layer.convtr.convtr, layer._inputs, layer._stride
    outputs = len(inner["bias"])
    kernel, bias = noise.normal(inputs, outputs, 2 * stride) * (2 * inputs) ** -0.5, 0.1 * noise.normal(outputs)
    inner["weight"] = lay_out("convtr.convtr.weight", mx.array(kernel))
    inner["bias"] = mx.array(bias)
    x = noise.normal(2, FRAMES * length, inputs)
    return _stream(layer, x), closed_form.transposed_convolution(x, kernel, bias, stride)


def _block(layer: ResnetBlock, length: int, noise: Noise) -> Made:
    narrow, wide = layer.block[1], layer.block[3]
    (first, first_bias), (second, second_bias) = _fill(narrow, noise), _fill(wide, noise)
    x = noise.normal(2, FRAMES * length, narrow._inputs)
    hidden = closed_form.convolution(closed_form.elu(x), first, first_bias, 1, narrow._dilation)
    return _stream(layer, x), x + closed_form.convolution(closed_form.elu(hidden), second, second_bias)


def _downsample(dim: int, stride: int, noise: Noise) -> Made:
    layer = Downsample(dim, stride)
    kernel, _ = _fill(layer.conv, noise)
    x = noise.normal(2, FRAMES * stride, dim)
    # A stream begins as if its first position had been there forever.
    before = np.concatenate([np.repeat(x[:, :1], stride, axis=1), x], axis=1)
    return _stream(layer, x), closed_form.convolution(before, kernel, None, stride)[:, 1:]


def _upsample(dim: int, stride: int, noise: Noise) -> Made:
    layer = Upsample(dim, stride)
    kernel = noise.normal(dim, 1, 2 * stride)
    layer.convtr.convtr.convtr["weight"] = lay_out("upsample.convtr.convtr.convtr.weight", mx.array(kernel))
    x = noise.normal(2, FRAMES, dim)
    return _stream(layer, x), closed_form.transposed_convolution(x, kernel, None, stride)


def _codebook(bins: int, dim: int, noise: Noise) -> Made:
    """Compare distances, not codes: of two entries equally far either is right. Then what the codes stand for."""
    book, entries, x = Codebook(bins, dim), noise.normal(bins, dim), noise.normal(30, dim)
    book["embedding"], book["half_norm"] = mx.array(entries), mx.array((entries**2).sum(1) / 2)
    codes = numbers(book.encode(mx.array(x)))[:, 0]
    distances, nearest = closed_form.nearest(x, entries)
    found = np.take_along_axis(distances, codes[:, None], 1)[:, 0]
    decoded = numbers(book.decode(mx.array(codes)))
    return (
        np.concatenate([found, decoded.ravel()]),
        np.concatenate([nearest, entries[codes].ravel()]),
    )
