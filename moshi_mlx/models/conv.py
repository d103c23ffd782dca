"""Causal convolutions that continue a stream, channels last, with the past they need held as state.

Attribute names equal the published file's keys, in which `conv.conv` and `convtr.convtr` keep a place for a norm
that existed in training only. Kernels are stored as the matrices that `mimi_weights` makes of them.
Source: moshi/modules/conv.py, moshi/modules/resample.py.
"""

from typing import Generic, TypeVar

import mlx.core as mx
import mlx.nn as nn

T = TypeVar("T", bound=nn.Module)


class ConvState:
    """The last inputs of one convolution, for all rows of a batch."""

    def __init__(self, batch: int, length: int, channels: int) -> None:
        self.previous = mx.zeros((batch, length, channels))  # oldest first
        self.fresh = [True] * batch  # rows that have had no input yet

    def arrays(self) -> list[mx.array]:
        return [self.previous]

    def reset_row(self, row: int) -> None:
        """Make one row forget, without touching the others."""
        self.previous[row] = 0.0
        self.fresh[row] = True


class StreamingConv1d(nn.Module):
    """A convolution whose left padding is the end of what came before.

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
        self.conv = _Conv(_Matrix(outputs, kernel * inputs, bias))
        self._inputs = inputs
        self._kernel, self._stride, self._dilation = kernel, stride, dilation
        self._left = (kernel - 1) * dilation + 1 - stride
        self._replicate = replicate

    def new_state(self, batch: int) -> ConvState | None:
        """A fresh stream; None where nothing of the past is needed."""
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
        """(B, left + T, inputs) -> (B, T / stride, kernel * inputs), what each output looks at."""
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
        self.convtr = _Convtr(_TransposedKernel(inputs, outputs, stride))
        self._inputs, self._stride = inputs, stride

    def new_state(self, batch: int) -> ConvState:
        return ConvState(batch, 1, self._inputs)

    def __call__(self, x: mx.array, state: ConvState) -> mx.array:
        """x: (B, T, inputs). Returns (B, T * stride, outputs)."""
        B, T, _ = x.shape
        before = mx.concatenate([state.previous, x[:, :-1]], axis=1) if T > 1 else state.previous
        state.previous = x[:, -1:]
        blocks = self.convtr.convtr(mx.concatenate([before, x], axis=2))  # (B, T, stride, outputs)
        return blocks.reshape(B, T * self._stride, -1)


class Downsample(nn.Module):
    """From transformer positions to frames: a strided convolution over all channels."""

    def __init__(self, dim: int, stride: int) -> None:
        super().__init__()
        self.conv = StreamingConv1d(dim, dim, 2 * stride, stride, bias=False, replicate=True)

    def new_state(self, batch: int) -> ConvState | None:
        return self.conv.new_state(batch)

    def __call__(self, x: mx.array, state: ConvState | None) -> mx.array:
        """x: (B, T, dim). Returns (B, T / stride, dim)."""
        return self.conv(x, state)


class Upsample(nn.Module):
    """From frames to transformer positions: a transposed convolution of each channel by itself."""

    def __init__(self, dim: int, stride: int) -> None:
        super().__init__()
        self.convtr = _Convtr(_Convtr(_Weight(2 * stride, dim)))
        self._dim, self._stride = dim, stride

    def new_state(self, batch: int) -> ConvState:
        return ConvState(batch, 1, self._dim)

    def __call__(self, x: mx.array, state: ConvState) -> mx.array:
        """x: (B, T, dim). Returns (B, T * stride, dim)."""
        B, T, C = x.shape
        before = mx.concatenate([state.previous, x[:, :-1]], axis=1) if T > 1 else state.previous
        state.previous = x[:, -1:]
        kernel = self.convtr.convtr.convtr.weight  # (2 * stride, dim)
        now, later = kernel[: self._stride], kernel[self._stride :]
        return (x[:, :, None] * now + before[:, :, None] * later).reshape(B, T * self._stride, C)


class _Conv(nn.Module):
    def __init__(self, conv: "_Matrix") -> None:
        super().__init__()
        self.conv = conv


class _Convtr(nn.Module, Generic[T]):
    def __init__(self, convtr: T) -> None:
        super().__init__()
        self.convtr = convtr


class _Weight(nn.Module):
    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.weight = mx.zeros(shape)


class _Matrix(_Weight):
    """An affine map, weight (outputs, inputs)."""

    def __init__(self, outputs: int, inputs: int, bias: bool) -> None:
        super().__init__(outputs, inputs)
        if bias:
            self.bias = mx.zeros((outputs,))
        self._biased = bias

    def __call__(self, x: mx.array) -> mx.array:
        return mx.addmm(self.bias, x, self.weight.T) if self._biased else x @ self.weight.T


class _TransposedKernel(_Weight):
    """An affine map from pairs of inputs to blocks of outputs, weight (2 * inputs, stride * outputs)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__(2 * inputs, stride * outputs)
        self.bias = mx.zeros((outputs,))
        self._shape = (stride, outputs)

    def __call__(self, pairs: mx.array) -> mx.array:
        return (pairs @ self.weight).reshape(*pairs.shape[:2], *self._shape) + self.bias
