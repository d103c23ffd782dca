"""Weights that two programs can make alike from names alone, so that golden files hold outputs only."""

import zlib

import numpy as np


def random_tensor(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A float32 tensor that depends on its name and shape; norms near 1, matrices of variance 1 / fan-in."""
    # RandomState's streams are frozen for ever, those of newer generators may change with numpy.
    values = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
    if name.endswith(("alpha", "norm1.weight", "norm2.weight")) or ("norm" in name and name.endswith("weight")):
        values = 1 + 0.1 * values
    elif name.endswith("bias"):
        values = 0.1 * values
    elif len(shape) > 1:
        values = values / np.sqrt(shape[-1])
    return values.astype(np.float32)
