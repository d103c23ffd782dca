"""SEANet, the convolutional encoder and decoder around Mimi's transformers, and Mimi's other convolutions.

All continue a stream, with the inputs they still need as state; arrays are channels last. Attribute names equal
the keys of the published file: `model` is a list in which activations have places too, though no weights, and
`conv.conv` and `convtr.convtr` leave room for a norm that existed in training only. Kernels are stored as the
matrices that `mimi.lay_out` makes of them.
Source: moshi/modules/seanet.py, moshi/modules/conv.py, moshi/modules/resample.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any, Generic, TypeVar

import mlx.core as mx
import mlx.nn as nn

from moshi_mlx.models.activations import elu
from moshi_mlx.models.mimi_config import SeanetConfig

T = TypeVar("T", bound=nn.Module)


class ConvState:
    """The last inputs of one convolution, for all rows of a batch."""

    def __init__(self, batch: int, length: int, channels: int) -> None:
        self.previous = mx.zeros((batch, length, channels))  # oldest first
        self.fresh = [True] * batch  # rows that have had no input yet

    def arrays(self) -> list[mx.array]:
        """Return every array held, to be evaluated together with what a step returns."""
        return [self.previous]

    def shift(self, x: mx.array) -> mx.array:
        """Return the input before each of x (B, T, channels), for a state of length 1, and keep the last one."""
        before = mx.concatenate([self.previous, x[:, :-1]], axis=1) if x.shape[1] > 1 else self.previous
        self.previous = x[:, -1:]
        return before

    def reset_row(self, row: int) -> None:
        """Make one row forget its past, without touching the others."""
        self.previous[row] = 0.0
        self.fresh[row] = True

    @staticmethod
    def joined(parts: Sequence[tuple[ConvState, Sequence[int]]]) -> ConvState:
        """Return a state of its own that holds rows of others: parts of (state, its rows)."""
        made = copy(parts[0][0])
        made.previous = mx.concatenate([state.previous[mx.array(list(rows))] for state, rows in parts])
        made.fresh = [state.fresh[row] for state, rows in parts for row in rows]
        return made


class SeanetState:
    """One `ConvState` for each layer of a `model`, None for layers without a past."""

    def __init__(self, layers: list[ConvState | None]) -> None:
        self.layers = layers

    def arrays(self) -> list[mx.array]:
        """Return every array held, to be evaluated together with what a step returns."""
        return [array for layer in self.layers if layer for array in layer.arrays()]

    def reset_row(self, row: int) -> None:
        """Make one row forget its past, without touching the others."""
        for layer in self.layers:
            if layer:
                layer.reset_row(row)

    @staticmethod
    def joined(parts: Sequence[tuple[SeanetState, Sequence[int]]]) -> SeanetState:
        """Return a state of its own that holds rows of others: parts of (state, its rows)."""
        layers: list[ConvState | None] = []
        for each in zip(*(state.layers for state, _ in parts), strict=True):
            rows = [(layer, rows) for layer, (_, rows) in zip(each, parts, strict=True) if layer]
            layers.append(ConvState.joined(rows) if rows else None)
        return SeanetState(layers)


class _Seanet(nn.Module):
    model: list[Any]  # StreamingConv1d, StreamingConvTranspose1d, ResnetBlock or Elu

    def new_state(self, batch: int) -> SeanetState:
        """Return the state of a fresh stream of `batch` rows."""
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


def _residual_blocks(config: SeanetConfig, width: int) -> list[ResnetBlock]:
    return [
        ResnetBlock(width, width // config.compress, config.residual_kernel_size, config.dilation_base**index)
        for index in range(config.n_residual_layers)
    ]


class ResnetBlock(nn.Module):
    """x (B, T, width) plus two convolutions of it: a narrow dilated one, and one of kernel 1, without a past."""

    def __init__(self, width: int, hidden: int, kernel: int, dilation: int) -> None:
        super().__init__()
        narrow = StreamingConv1d(width, hidden, kernel, dilation=dilation)
        self.block = [Elu(), narrow, Elu(), StreamingConv1d(hidden, width, 1)]

    def new_state(self, batch: int) -> ConvState | None:
        """Return the state of a fresh stream: that of the dilated convolution."""
        return self.block[1].new_state(batch)

    def __call__(self, x: mx.array, state: ConvState | None) -> mx.array:
        hidden = self.block[1](elu(x), state)
        return x + self.block[3](elu(hidden), None)


class Elu(nn.Module):
    """The activation between layers."""

    def new_state(self, batch: int) -> None:
        """Return None: an activation has no past."""

    def __call__(self, x: mx.array, state: None = None) -> mx.array:
        return elu(x)


class StreamingConv1d(nn.Module):
    """A convolution whose left padding is the end of the previous input.

    replicate: a stream begins as if its first input had been there forever, instead of zeros.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int = 1,
        dilation: int = 1,
        bias: bool = True,
        replicate: bool = False,
    ) -> None:
        super().__init__()
        self.conv = _Conv(nn.Linear(kernel * inputs, outputs, bias))
        self._inputs = inputs
        self._kernel, self._stride, self._dilation = kernel, stride, dilation
        self._left = (kernel - 1) * dilation + 1 - stride
        self._replicate = replicate

    def new_state(self, batch: int) -> ConvState | None:
        """Return the state of a fresh stream; None for a convolution that needs no past."""
        return ConvState(batch, self._left, self._inputs) if self._left else None

    def __call__(self, x: mx.array, state: ConvState | None) -> mx.array:
        """x: (B, T, inputs), T a multiple of the stride. Returns (B, T / stride, outputs)."""
        if state is not None:
            if self._replicate and any(state.fresh):
                rows = mx.array(state.fresh)[:, None, None]
                state.previous = mx.where(rows, x[:, :1], state.previous)
                state.fresh = [False] * len(state.fresh)
            x = mx.concatenate([state.previous, x], axis=1)
            state.previous = x[:, -self._left :]
        return self.conv.conv(self._windows(x))

    def _windows(self, x: mx.array) -> mx.array:
        """Return the inputs of each output: (B, left + T, inputs) -> (B, T / stride, kernel * inputs)."""
        if self._kernel == 1 and self._stride == 1:
            return x
        B, length, C = x.shape
        count = (length - self._left) // self._stride
        shape = (B, count, self._kernel, C)
        strides = (length * C, self._stride * C, self._dilation * C, 1)
        return mx.as_strided(x, shape, strides).reshape(B, count, -1)


class StreamingConvTranspose1d(nn.Module):
    """A transposed convolution whose kernel is twice its stride.

    With such a kernel each block of `stride` outputs depends on one input and the one before it, so it is a single
    matrix product of input pairs, without overlapping blocks to add up.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.convtr = _Convtr(_PairKernel(inputs, outputs, stride))
        self._inputs, self._stride = inputs, stride

    def new_state(self, batch: int) -> ConvState:
        """Return the state of a fresh stream: one input."""
        return ConvState(batch, 1, self._inputs)

    def __call__(self, x: mx.array, state: ConvState) -> mx.array:
        """x: (B, T, inputs). Returns (B, T * stride, outputs)."""
        B, T, _ = x.shape
        pairs = mx.concatenate([state.shift(x), x], axis=2)
        return self.convtr.convtr(pairs).reshape(B, T * self._stride, -1)


class Downsample(nn.Module):
    """From transformer positions to frames: a strided convolution over all channels."""

    def __init__(self, dim: int, stride: int) -> None:
        super().__init__()
        self.conv = StreamingConv1d(dim, dim, 2 * stride, stride, bias=False, replicate=True)
        self._dim, self._stride = dim, stride

    def new_state(self, batch: int) -> ConvState:
        """Return the state of a fresh stream: one frame."""
        return ConvState(batch, self._stride, self._dim)

    def __call__(self, x: mx.array, state: ConvState) -> mx.array:
        """x: (B, T, dim). Returns (B, T / stride, dim)."""
        return self.conv(x, state)


class Upsample(nn.Module):
    """From frames to transformer positions: a transposed convolution of each channel by itself."""

    def __init__(self, dim: int, stride: int) -> None:
        super().__init__()
        self.convtr = _Convtr(_Convtr(_Kernel(2 * stride, dim)))
        self._dim, self._stride = dim, stride

    def new_state(self, batch: int) -> ConvState:
        """Return the state of a fresh stream: one input."""
        return ConvState(batch, 1, self._dim)

    def __call__(self, x: mx.array, state: ConvState) -> mx.array:
        """x: (B, T, dim). Returns (B, T * stride, dim)."""
        B, T, C = x.shape
        before = state.shift(x)
        kernel = self.convtr.convtr.convtr.weight  # (2 * stride, dim)
        now, later = kernel[: self._stride], kernel[self._stride :]
        return (x[:, :, None] * now + before[:, :, None] * later).reshape(B, T * self._stride, C)


class _Conv(nn.Module):
    def __init__(self, conv: nn.Linear) -> None:
        super().__init__()
        self.conv = conv


class _Convtr(nn.Module, Generic[T]):
    def __init__(self, convtr: T) -> None:
        super().__init__()
        self.convtr = convtr


class _Kernel(nn.Module):
    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.weight = mx.zeros(shape)


class _PairKernel(_Kernel):
    """An affine map from pairs of inputs to blocks of outputs, weight (2 * inputs, stride * outputs)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__(2 * inputs, stride * outputs)
        self.bias = mx.zeros((outputs,))
        self._shape = (stride, outputs)

    def __call__(self, pairs: mx.array) -> mx.array:
        """pairs: (B, T, 2 * inputs), the earlier input first. Returns (B, T, stride, outputs)."""
        return (pairs @ self.weight).reshape(*pairs.shape[:2], *self._shape) + self.bias
