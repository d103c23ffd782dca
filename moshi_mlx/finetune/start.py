"""A language model that knows nothing yet: random weights of a config, to be trained in full."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_unflatten

from moshi_mlx.finetune.output import write_weights
from moshi_mlx.models.config import LmConfig
from moshi_mlx.models.layers import parameters
from moshi_mlx.models.lm import Lm

_REACH = 3.0  # standard deviations at which draws are cut off


def write_start(path: Path, config: Mapping[str, Any], seed: int = 0) -> None:
    """Write untrained weights, float32, in PyTorch's published layout.

    config: as in a config.json. Matrices and tables are drawn with the standard deviation 1 / sqrt(their rows'
    length), the whole depth transformer among them; norms begin as they do in PyTorch.
    Source: moshi/models/lm.py `LMModel._init_weights`, which leaves the depth transformer out.
    """
    lm, key = Lm(LmConfig.from_dict(config).as_stored), mx.random.key(seed)
    drawn = []
    for name, array in parameters(lm).items():
        if array.ndim > 1:
            key, own = mx.random.split(key)
            normal = mx.random.truncated_normal(-_REACH, _REACH, array.shape, key=own)
            drawn.append((name, normal * array.shape[-1] ** -0.5))
    lm.update(tree_unflatten(drawn))
    write_weights(path, lm, "F32")
