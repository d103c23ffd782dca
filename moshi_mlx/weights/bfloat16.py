"""bfloat16, which numpy lacks, as the upper 16 bits of a float32."""

import numpy as np


def to_bits(array: np.ndarray) -> np.ndarray:
    """Numbers as the bits (uint16) of the nearest bfloat16, of two the even one."""
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def from_bits(bits: np.ndarray) -> np.ndarray:
    """The float32 numbers that bits (uint16) stand for."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def all_finite(bits: np.ndarray) -> bool:
    """Whether no number is infinite or NaN."""
    return not ((bits & 0x7F80) == 0x7F80).any()
