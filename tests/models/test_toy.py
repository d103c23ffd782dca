"""The model of Kyutai's own tests, where its files are: MOSHI_TEST_ASSETS names moshi/tests/assets of a clone."""

import os
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.models.config import LmConfig
from moshi_mlx.weights.lm_weights import LmWeights

ASSETS = os.environ.get("MOSHI_TEST_ASSETS", "")
CONFIG = {
    "delays": [0, 1, 2, 4], "n_q": 3, "dep_q": 3, "card": 32, "text_card": 48, "dim": 16, "num_layers": 2,
    "num_heads": 1, "hidden_scale": 1, "depformer_dim": 16, "depformer_multi_linear": True,
    "depformer_weights_per_step": True, "depformer_weights_per_step_schedule": [0, 1, 1],
    "depformer_low_rank_embeddings": 8, "depformer_num_heads": 1, "depformer_gating": "silu", "context": 4,
}  # fmt: skip
"""What differs from `LMModel`'s defaults: ungated, sinusoidal, layer norm."""


def loaded(name: str) -> dict[str, mx.array]:
    found = mx.load(str(Path(ASSETS, name)))
    assert isinstance(found, dict)
    return found


@pytest.mark.skipif(not ASSETS, reason="MOSHI_TEST_ASSETS is not set")
def test_kyutais_own_test_model_gives_its_stored_logits() -> None:
    config = LmConfig.from_dict(CONFIG)
    lm = LmWeights(Path(ASSETS, "test_lm_model.safetensors"), config).load()
    stored = {
        name: np.array(array)
        for file in ("codes", "out")
        for name, array in loaded(f"test_lm_{file}.safetensors").items()
    }
    codes = stored["codes"]  # (B, 1 + n_q, T)
    B, _, T = codes.shape
    initial = np.array([config.text_card] + [config.card] * config.n_q)
    targets = np.tile(initial[None, :, None], (B, 1, T + max(config.delays)))
    for stream, delay in enumerate(config.delays):
        targets[:, stream, delay : delay + T] = codes[:, stream]
    inputs = np.concatenate([np.tile(initial[None, :, None], (B, 1, 1)), targets], axis=2)[:, :, :-1]
    hidden = lm.temporal(mx.array(inputs.astype(np.int32)), lm.new_state(B))
    text = np.array(lm.text_linear(hidden))
    audio = np.array(lm.depformer.logits(hidden, mx.array(targets.astype(np.int32))))
    assert np.abs(text[:, :T] - stored["text_logits"][:, 0]).max() < 1e-5
    for stream, delay in enumerate(config.delays[1:]):
        known = stored["mask"][:, stream]
        error = audio[:, stream, delay : delay + T] - stored["logits"][:, stream]
        assert np.abs(error[known]).max() < 1e-5, stream
