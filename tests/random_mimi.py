"""Mimi weights that two programs can make alike from names alone (see `random_weights`), and audio to encode."""

import zlib

import numpy as np

GOLDEN_FRAMES = 300  # of audio in the golden file
GOLDEN_STRIDE = 89  # samples between those that the golden file holds

SEANET = {
    "channels": 1, "dimension": 32, "causal": True, "n_filters": 8, "n_residual_layers": 1, "activation": "ELU",
    "compress": 2, "dilation_base": 2, "disable_norm_outer_blocks": 0, "kernel_size": 7, "residual_kernel_size": 3,
    "last_kernel_size": 3, "norm": "none", "pad_mode": "constant", "ratios": [8, 6, 5, 4], "true_skip": True,
}  # fmt: skip
QUANTIZER = {"dimension": 16, "n_q": 6, "bins": 48, "input_dimension": 32, "output_dimension": 32}
TRANSFORMER = {
    "d_model": 32, "num_heads": 4, "num_layers": 3, "causal": True, "layer_scale": 0.01, "context": 20,
    "conv_layout": True, "max_period": 10000, "gating": "none", "norm": "layer_norm",
    "positional_embedding": "rope", "dim_feedforward": 64, "input_dimension": 32, "output_dimensions": [32],
}  # fmt: skip
SMALL_MIMI = {
    "sample_rate": 24000, "channels": 1, "frame_rate": 12.5,
    "seanet": SEANET, "quantizer": QUANTIZER, "transformer": TRANSFORMER,
}  # fmt: skip
"""A `mimi_config` with everything small; its window of 20 positions is 10 frames."""


GOLDEN_WINDOWS = (20, 250)  # positions: one that wraps thirty times in the golden file, and Mimi's own


def with_window(positions: int) -> dict:
    """SMALL_MIMI with another window."""
    return {**SMALL_MIMI, "transformer": {**TRANSFORMER, "context": positions}}


def mimi_tensor(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A float32 tensor of a published file that depends on its name and shape; activations stay near 1."""
    values = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
    if name.endswith("_initialized"):
        values = np.ones(shape)
    elif name.endswith("cluster_usage"):
        values = 1.2 + 0.3 * np.sin(values)
        values[0] = 0.0  # an entry nobody used
    elif name.endswith("embedding_sum"):
        values = 0.4 * values
        values[0] *= 1e-6
    elif "norm" in name and name.endswith("weight"):
        values = 1 + 0.1 * values
    elif name.endswith("scale"):
        values = 0.2 + 0.05 * values
    elif name.endswith("bias"):
        values = 0.05 * values
    else:
        fan_in = int(np.prod(shape[1:]))
        if "convtr" in name:
            fan_in = 2 if shape[1] == 1 else 2 * shape[0]  # kernels are twice their stride
        values = values * 1.2 / np.sqrt(fan_in)
    return values.astype(np.float32)


def gliding_tone(frames: int) -> np.ndarray:
    """(frames * 1920,) float32: a gliding tone in syllables over a little noise."""
    time = np.arange(frames * 1920) / 24_000
    tone = np.sin(2 * np.pi * (180 * time + 40 * np.sin(2 * time))) * np.sin(5 * time) ** 2
    return (0.4 * tone + 0.03 * np.random.RandomState(3).standard_normal(len(time))).astype(np.float32)
