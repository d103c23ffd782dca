"""Position embeddings: queries and keys are rotated by angles that grow with their position, or sines are added.

Source: moshi/modules/rope.py; RoFormer (arXiv 2104.09864); moshi/modules/transformer.py `create_sin_embedding`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import mlx.core as mx
import numpy as np

from moshi_mlx.models.config import TransformerConfig


def use_table() -> bool:
    """Return whether to rotate with a table of `angles` instead of MLX's kernel.

    On a CPU there is no kernel: MLX computes the angles anew in every layer, a tenth of a small model's frame.
    """
    return mx.default_device() == mx.cpu


def angles(config: TransformerConfig, positions: Sequence[int]) -> tuple[mx.array, mx.array]:
    """Return the cosines and the sines of every position, (n, head dim) float32 each, computed in float64.

    Each frequency stands where its two channels are: side by side ("rope") or half a head apart ("rope_concat").
    """
    D = config.head_dim
    radians = np.outer(positions, config.max_period ** (-2.0 * np.arange(D // 2) / D))  # (n, D / 2)
    radians = np.repeat(radians, 2, axis=1) if config.rope == "rope" else np.tile(radians, (1, 2))
    return mx.array(np.cos(radians).astype(np.float32)), mx.array(np.sin(radians).astype(np.float32))


def rotate(x: mx.array, table: Sequence[mx.array], config: TransformerConfig) -> mx.array:
    """Rotate by a table of `angles`, in a shape that fits x: (n, H, T, D)."""
    cos, sin = table
    partner = x @ _partners(config.head_dim, config.rope).astype(x.dtype)
    return (x * cos + partner * sin).astype(x.dtype)


def sinusoids(config: TransformerConfig, starts: Sequence[int] | np.ndarray, count: int) -> mx.array:
    """Return what is added to inputs whose positions count from `starts` on, (len(starts), count, dim) float32.

    Computed in float64. Unlike rotations these tell positions themselves, not only how far apart they are.
    """
    positions = np.asarray(starts)[:, None] + np.arange(count)
    return mx.array(sines(positions, config.dim, config.max_period))


def sines(positions: np.ndarray, dim: int, max_period: float = 10_000.0) -> np.ndarray:
    """Return cosines, then sines, of every position: (*positions.shape, dim) float32, computed in float64."""
    half = dim // 2
    phases = positions[..., None] * max_period ** (-np.arange(half) / (half - 1))
    return np.concatenate([np.cos(phases), np.sin(phases)], axis=-1).astype(np.float32)


@cache
def _partners(D: int, rope: str) -> mx.array:
    """Return the matrix (D, D) that gives each channel the one it is rotated with, negated for the first of two.

    Every row and column has one entry, so a product with it is exact.
    """
    matrix = np.zeros((D, D), dtype=np.float32)
    first = np.arange(0, D, 2) if rope == "rope" else np.arange(D // 2)
    second = first + (1 if rope == "rope" else D // 2)
    matrix[second, first], matrix[first, second] = -1.0, 1.0
    array = mx.array(matrix)
    mx.eval(array)  # it is shared by threads
    return array
