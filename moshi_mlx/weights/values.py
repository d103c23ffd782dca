"""What weights hold: numbers throughout, and matrices that are not all zeros.

Arrays are looked at while the file is still being read, and by their bits: as whole numbers, what is no number
lies above all numbers of its sign. Two reductions without a copy tell NaN, infinities and zeros, whatever a
backend's arithmetic makes of NaN.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

import mlx.core as mx

from moshi_mlx.errors import fetch_again, some
from moshi_mlx.models.layers import dequantized

if TYPE_CHECKING:
    from moshi_mlx.weights.quantization import Scheme

T = TypeVar("T")

ROWS = 1 << 10  # of a quantized matrix that are dequantized at once, after the first


@dataclass(frozen=True)
class Bits:
    """How a type is read as whole numbers, and from which on they stand for no number: without and with a sign."""

    signed: mx.Dtype
    unsigned: mx.Dtype
    positive: int
    negative: int

    @property
    def minus_zero(self) -> int:
        """What stands for -0."""
        return 1 << (8 * self.unsigned.size - 1)


FLOATS: Mapping[mx.Dtype, Bits] = {
    mx.float32: Bits(mx.int32, mx.uint32, 0x7F80_0000, 0xFF80_0000),
    mx.bfloat16: Bits(mx.int16, mx.uint16, 0x7F80, 0xFF80),
    mx.float16: Bits(mx.int16, mx.uint16, 0x7C00, 0xFC00),
}
_E8M0 = Bits(mx.int8, mx.uint8, 256, 0xFF)  # no sign: 0x7F is 1
_E4M3 = Bits(mx.int8, mx.uint8, 0x7F, 0xFF)
SCALES: Mapping[str, Bits] = {"mxfp4": _E8M0, "mxfp8": _E8M0, "nvfp4": _E4M3}
"""What the scales of a mode are, where they are bytes."""


def sum_of_squares(array: mx.array) -> mx.array:
    """The sum of the squares of all elements, a scalar.

    Row by row: MLX's CPU backend adds one element after the other in the array's own type, and float32 does not
    grow past 2^24 by ones. A matrix of Moshi 7B has more elements.
    """
    return mx.sum(mx.sum(mx.square(array), axis=-1))


class Look(Generic[T]):
    """A look at arrays, begun without waiting for it.

    arrays: (what the caller calls it, array, its bits or None to leave it out).
    """

    def __init__(self, arrays: Iterable[tuple[T, mx.array, Bits | None]]) -> None:
        self._extremes = [
            (name, bits, mx.max(array.view(bits.signed)), mx.max(array.view(bits.unsigned)))
            for name, array, bits in arrays
            if bits and array.size
        ]
        mx.async_eval([extreme for *_, one, other in self._extremes for extreme in (one, other)])

    def not_finite(self) -> list[T]:
        """Return what holds infinities or NaN; waits until all is known."""
        return [
            name
            for name, bits, signed, unsigned in self._extremes
            if int(signed) >= bits.positive or int(unsigned) >= bits.negative
        ]

    def zeros(self) -> list[T]:
        """Return what holds nothing but zeros, of either sign; waits until all is known."""
        return [
            name
            for name, bits, signed, unsigned in self._extremes
            if int(signed) <= 0 and int(unsigned) in (0, bits.minus_zero)
        ]


def all_zero(arrays: Sequence[mx.array], scheme: Scheme) -> bool:
    """Return whether a quantized matrix stands for zeros alone. arrays: its weight, scales and, if any, biases."""
    start, count = 0, 1  # the first row says no for nearly all
    while start < len(arrays[0]):
        rows = dequantized([array[start : start + count] for array in arrays], **scheme.block())
        if mx.any(rows != 0).item():
            return False
        start, count = start + count, ROWS
    return True


def zeros_note(path: Path, keys: Iterable[str]) -> str:
    """Return what to say of matrices that hold nothing but zeros."""
    return (
        f"{path}: nothing but zeros in {some(keys)}, as a conversion that failed leaves it; "
        f"if that is not meant, {fetch_again(path)}"
    )
