"""SEANet: the convolutional encoder and decoder around Mimi's transformers, channels last.

`model` is a list in the published order, so activations hold places in it though they have no weights.
Source: moshi/modules/seanet.py.
"""

from functools import partial
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from moshi_mlx.models.conv import ConvState, StreamingConv1d, StreamingConvTranspose1d
from moshi_mlx.models.layers import compiled
from moshi_mlx.models.mimi_config import SeanetConfig


class SeanetState:
    """One entry per layer of a `model`, None for layers without a past."""

    def __init__(self, layers: list[ConvState | None]) -> None:
        self.layers = layers

    def arrays(self) -> list[mx.array]:
        return [array for layer in self.layers if layer for array in layer.arrays()]

    def reset_row(self, row: int) -> None:
        """Make one row forget, without touching the others."""
        for layer in self.layers:
            if layer:
                layer.reset_row(row)


class _Seanet(nn.Module):
    model: list[Any]  # StreamingConv1d, StreamingConvTranspose1d, ResnetBlock or Elu

    def new_state(self, batch: int) -> SeanetState:
        return SeanetState([layer.new_state(batch) for layer in self.model])

    def __call__(self, x: mx.array, state: SeanetState) -> mx.array:
        for layer, past in zip(self.model, state.layers, strict=True):
            x = layer(x, past)
        return x


class SeanetEncoder(_Seanet):
    """Audio (B, T, 1), T a multiple of the hop -> (B, T / hop, dimension)."""

    def __init__(self, config: SeanetConfig) -> None:
        super().__init__()
        width = config.n_filters
        self.model = [StreamingConv1d(1, width, config.kernel_size)]
        for ratio in reversed(config.ratios):
            self.model += _residual_blocks(config, width)
            self.model += [Elu(), StreamingConv1d(width, 2 * width, 2 * ratio, stride=ratio)]
            width *= 2
        self.model += [Elu(), StreamingConv1d(width, config.dimension, config.last_kernel_size)]


class SeanetDecoder(_Seanet):
    """(B, T, dimension) -> audio (B, T * hop, 1)."""

    def __init__(self, config: SeanetConfig) -> None:
        super().__init__()
        width = config.n_filters * 2 ** len(config.ratios)
        self.model = [StreamingConv1d(config.dimension, width, config.kernel_size)]
        for ratio in config.ratios:
            self.model += [Elu(), StreamingConvTranspose1d(width, width // 2, ratio)]
            width //= 2
            self.model += _residual_blocks(config, width)
        self.model += [Elu(), StreamingConv1d(width, 1, config.last_kernel_size)]


class ResnetBlock(nn.Module):
    """x plus a narrow dilated convolution of it; the convolution of kernel 1 has no past."""

    def __init__(self, width: int, hidden: int, kernel: int, dilation: int) -> None:
        super().__init__()
        inside = StreamingConv1d(width, hidden, kernel, dilation=dilation)
        self.block = [Elu(), inside, Elu(), StreamingConv1d(hidden, width, 1)]

    def new_state(self, batch: int) -> ConvState | None:
        return self.block[1].new_state(batch)

    def __call__(self, x: mx.array, state: ConvState | None) -> mx.array:
        hidden = self.block[1](elu(x), state)
        return x + self.block[3](elu(hidden), None)


class Elu(nn.Module):
    """The activation between layers."""

    def new_state(self, batch: int) -> None:
        return None

    def __call__(self, x: mx.array, state: None = None) -> mx.array:
        return elu(x)


@partial(compiled, shapeless=True)
def elu(x: mx.array) -> mx.array:
    """x where it is positive, e^x - 1 elsewhere."""
    return mx.maximum(x, 0) + mx.expm1(mx.minimum(x, 0))


def _residual_blocks(config: SeanetConfig, width: int) -> list[ResnetBlock]:
    return [
        ResnetBlock(width, width // config.compress, config.residual_kernel_size, config.dilation_base**index)
        for index in range(config.n_residual_layers)
    ]
