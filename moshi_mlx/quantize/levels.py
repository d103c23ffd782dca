"""The levels that a quantized array rounds to, chosen with the array's inputs in mind.

MLX's affine quantization spreads a group's levels from its least to its greatest weight, and rounds to levels
whose scale and bias it then stores in fewer bits. Here every group chooses among narrower ranges, fits scale and
bias by least squares to its rounded weights, as they will be stored, and keeps what changes the layer's output
least: errors are weighted by the mean square of the input they multiply. The file's format stays MLX's.
Source: the clipping search of AWQ (Lin et al., 2023), without its scaling of channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from moshi_mlx.models.layers import dequantized
from moshi_mlx.weights.quantization import Scheme
from moshi_mlx.weights.safetensors import from_bits

RANGES = (1.0, 0.9, 0.8, 0.7, 0.6)  # of a group's own
FITS = 4  # rounds of rounding and least squares
AT_ONCE = 1 << 18  # weights


def calibrated(
    weight: mx.array, scheme: Scheme, weights: np.ndarray | None = None
) -> tuple[mx.array, mx.array, mx.array]:
    """Quantize one array; return packed weights, scales and biases, as `mx.quantize` does.

    weight: (rows, width). weights: (width,), how much an error of each input matters; all alike unless given.
    """
    rows, width = weight.shape
    if weights is None or not weights.any():
        weights = np.ones(width)
    matter = np.maximum(weights, 1e-8 * weights.max())
    matter = mx.array((matter / matter.mean()).astype(np.float32)).reshape(width // scheme.group_size, -1)
    at_once = max(1, AT_ONCE // width)
    parts = [_rows(weight[first : first + at_once], scheme, matter) for first in range(0, rows, at_once)]
    codes, scales, biases = (mx.concatenate(list(part)) for part in zip(*parts, strict=True))
    return mx.array(packed(np.array(codes).reshape(rows, width), scheme.bits)), scales, biases


def packed(codes: np.ndarray, bits: int) -> np.ndarray:
    """Pack integers below 2^bits as MLX does: one stream of bits a row, least significant first, in uint32."""
    stream = (codes[..., None].astype(np.uint8) >> np.arange(bits, dtype=np.uint8)) & 1
    octets = np.packbits(stream.reshape(len(codes), -1), axis=-1, bitorder="little")
    return np.ascontiguousarray(octets).view("<u4")


def _rows(weight: mx.array, scheme: Scheme, matter: mx.array) -> tuple[mx.array, mx.array, mx.array]:
    """Quantize some rows: codes (rows, groups, group size), scales and biases (rows, groups) as stored."""
    values = weight.astype(mx.float32).reshape(weight.shape[0], -1, scheme.group_size)
    levels = 2**scheme.bits - 1

    def stored(array: mx.array) -> mx.array:
        return array.astype(weight.dtype).astype(mx.float32)

    # What MLX itself would choose is the one to beat.
    _, scales, biases = mx.quantize(weight, scheme.group_size, scheme.bits)
    scale, bias = scales.astype(mx.float32)[..., None], biases.astype(mx.float32)[..., None]
    starts = [(scale, bias)]
    low, high = values.min(axis=-1, keepdims=True), values.max(axis=-1, keepdims=True)
    starts += [((high - low) * share / levels, low * share) for share in RANGES]

    best: list[mx.array] = []
    for scale, bias in starts:
        for _ in range(FITS):
            scale, bias = stored(scale), stored(bias)
            safe = mx.where(scale == 0, 1.0, scale)
            codes = mx.clip(mx.round((values - bias) / safe), 0, levels)
            error = mx.sum(matter * mx.square(codes * scale + bias - values), axis=-1, keepdims=True)
            if not best:
                best = [error, codes, scale, bias]
            better = error < best[0]
            best = [mx.where(better, new, old) for new, old in zip((error, codes, scale, bias), best, strict=True)]
            scale, bias = _fit(codes, values, matter, scale, bias)
        mx.eval(best)
    _, codes, scale, bias = best
    return codes.astype(mx.uint8), scale[..., 0].astype(weight.dtype), bias[..., 0].astype(weight.dtype)


def _fit(
    codes: mx.array, values: mx.array, matter: mx.array, scale: mx.array, bias: mx.array
) -> tuple[mx.array, mx.array]:
    """Return the line through (codes, values) of least weighted squares; the old one where all codes are equal."""
    total = mx.sum(matter, axis=-1, keepdims=True)
    mean_code = mx.sum(matter * codes, axis=-1, keepdims=True) / total
    mean_value = mx.sum(matter * values, axis=-1, keepdims=True) / total
    spread = mx.sum(matter * mx.square(codes - mean_code), axis=-1, keepdims=True)
    slope = mx.sum(matter * (codes - mean_code) * (values - mean_value), axis=-1, keepdims=True)
    flat = spread == 0
    slope = mx.where(flat, scale, slope / mx.where(flat, 1.0, spread))
    return slope, mx.where(flat, bias, mean_value - slope * mean_code)


@dataclass
class Loss:
    """How wrong quantizing makes a layer, counted block of rows by block."""

    underflowed: bool = False  # whether a scale has become zero over weights that are not
    wrong: float = 0.0  # sums of squares
    size: float = 0.0

    def add(self, bits: np.ndarray, parts: Sequence[np.ndarray], scheme: Scheme) -> None:
        """Count a block. bits: its weights, in bfloat16. parts: what quantizing made of them."""
        weight = from_bits(bits)
        largest = np.abs(weight).reshape(len(weight), -1, scheme.group_size).max(axis=-1)
        self.underflowed = self.underflowed or bool(((parts[1] == 0) & (largest > 0)).any())
        made = np.array(dequantized([mx.array(part) for part in parts], **scheme.block()))
        self.wrong += float(np.square(made - weight).sum(dtype=np.float64))
        self.size += float(np.square(weight).sum(dtype=np.float64))

    @property
    def error(self) -> float:
        """The size of the error over the layer's own."""
        return math.sqrt(self.wrong / self.size) if self.size else 0.0
