# type: ignore  # moshi_mlx is another package here, the one of Kyutai
"""Makes tests/assets/peer_*.npz: what Kyutai's own MLX program makes of a quantized model, and what it answers.

Needs Kyutai's moshi-mlx 0.3.0 in an environment of its own (it has our import name):

    python tests/make_peer_golden.py

Kyutai's published q4 and q8 files come from `mlx.nn.quantize` over the whole model; that is done here to weights
that `random_weights` makes from their names. A file holds the config, the names, shapes and types of all tensors,
and teacher-forced logits. Positions are pushed one by one (the program masks nothing inside a chunk), no token is
-1 (quantized, it does not embed -1 to zero), and all is float32.
"""

import json
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten
from random_weights import random_tensor

from moshi_mlx.models.lm import Lm, LmConfig

ASSETS = Path(__file__).parent / "assets"
POSITIONS = 6
KINDS = {"q4": {"bits": 4, "group_size": 32}, "q8": {"bits": 8, "group_size": 64}}
CONFIG = {
    "dim": 256,
    "num_heads": 4,
    "num_layers": 2,
    "hidden_scale": 4.125,
    "text_card": 48,
    "card": 32,
    "existing_text_padding_id": 3,
    "n_q": 6,
    "dep_q": 3,
    "delays": [0, 0, 1, 1, 0, 1, 1],
    "causal": True,
    "layer_scale": None,
    "gating": "silu",
    "norm": "rms_norm_f32",
    "positional_embedding": "rope",
    "context": 3000,
    "max_period": 10_000,
    "depformer_dim": 64,
    "depformer_num_heads": 2,
    "depformer_num_layers": 2,
    "depformer_dim_feedforward": 192,
    "depformer_context": 3,
    "depformer_max_period": 10_000,
    "depformer_multi_linear": True,
    "depformer_gating": "silu",
    "depformer_pos_emb": "none",
    "depformer_weights_per_step": True,
}


def answers(lm: Lm, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """tokens (1, 1 + n_q, T) -> text logits (T, text_card), audio logits (dep_q, T, card)."""
    text, audio = [], []
    for position in range(tokens.shape[-1]):
        column = mx.array(tokens[:, :, position])
        x = lm.text_emb(column[:, :1])
        for stream, table in enumerate(lm.audio_embs):
            x = x + table(column[:, stream + 1 : stream + 2])
        hidden = lm.out_norm(lm.transformer(x, cache=lm.transformer_cache))
        text.append(np.array(lm.text_linear(hidden))[0, 0])
        for cache in lm.depformer_cache:
            cache.reset()
        steps = []
        for step, one in enumerate(lm.depformer.slices):
            y = one.linear_in(hidden) + one.emb(column[:, step : step + 1])
            steps.append(np.array(one.linear_out(one.transformer(y, cache=lm.depformer_cache)))[0, 0])
        audio.append(steps)
    return np.stack(text), np.stack(audio, axis=1)


def main() -> None:
    for name, how in KINDS.items():
        lm = Lm(LmConfig.from_config_dict(CONFIG))
        dense = [(key, mx.array(random_tensor(key, array.shape))) for key, array in tree_flatten(lm.parameters())]
        lm.load_weights(dense)
        nn.quantize(lm, **how)
        tensors = {key: [list(array.shape), str(array.dtype)] for key, array in tree_flatten(lm.parameters())}
        rng = np.random.RandomState(0)
        tokens = rng.randint(0, CONFIG["card"], (1, 1 + CONFIG["n_q"], POSITIONS)).astype(np.int32)
        text, audio = answers(lm, tokens)
        np.savez_compressed(
            ASSETS / f"peer_{name}.npz",
            config=json.dumps(CONFIG),
            tensors=json.dumps(tensors),
            tokens=tokens,
            text_logits=text,
            audio_logits=audio,
        )


if __name__ == "__main__":
    main()
