"""Adapters in files, for tests."""

import json
from pathlib import Path

import mlx.core as mx
import numpy as np

from moshi_mlx.checkpoint.random_checkpoint import TINY
from moshi_mlx.models.config import LmConfig
from moshi_mlx.models.layers import parameters
from moshi_mlx.models.lm import Lm
from moshi_mlx.weights.key_map import torch_origin


def adapter(folder: Path, seed: int, config: dict = TINY, replaced: dict[str, np.ndarray] | None = None) -> Path:
    """Write an adapter of every layer that is a matrix."""
    folder.mkdir()
    lm_config = LmConfig.from_dict(config)
    random, tensors = np.random.RandomState(seed), {}
    for name, array in parameters(Lm(lm_config)).items():
        key = torch_origin(name, lm_config).key.removesuffix("_weight").removesuffix(".weight")
        if array.ndim != 2 or "emb" in name or f"{key}.lora_A.weight" in tensors:
            continue
        origin = torch_origin(name, lm_config)
        rows, columns = origin.stored_shape(array.shape)
        parts = origin.parts
        tensors[f"{key}.lora_A.weight"] = mx.array(0.1 * random.standard_normal((4 * parts, columns)), mx.float32)
        tensors[f"{key}.lora_B.weight"] = mx.array(0.1 * random.standard_normal((rows, 4)), mx.float32)
    mx.save_safetensors(
        str(folder / "lora.safetensors"),
        {**tensors, **{name: mx.array(value) for name, value in (replaced or {}).items()}},
    )
    (folder / "config.json").write_text(json.dumps({**config, "lora": True, "lora_rank": 4, "lora_scaling": 2.0}))
    return folder
