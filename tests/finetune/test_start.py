"""Weights to begin from: of the size that training wants, and a whole model in full training."""

from pathlib import Path

import numpy as np

from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.checkpoint.random_checkpoint import LM_NAME, TINY
from moshi_mlx.finetune.start import write_start
from moshi_mlx.models.layers import parameters


def test_a_model_that_knows_nothing_is_loaded_as_any_other(folder: Path) -> None:
    config = {**TINY, "depformer_weights_per_step_schedule": [0, 1, 2, 2, 2, 2, 2, 2]}
    write_start(folder / LM_NAME, TINY, seed=1)
    lm = Checkpoint.resolve(folder).load_lm()
    for name, array in parameters(lm).items():
        if array.ndim == 1:
            assert (np.array(array) == 1).all(), name
        else:
            drawn = np.array(array) * array.shape[-1] ** 0.5
            assert 0.9 < drawn.std() < 1.05, name
            assert np.abs(drawn).max() <= 3.001, name
    write_start(folder / "shared.safetensors", config)
    assert (folder / "shared.safetensors").stat().st_size < (folder / LM_NAME).stat().st_size
