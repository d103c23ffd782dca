"""Nano's language model: Moshi's, at small sizes."""

from typing import Any

from training.text import EPAD, PAD, text_card

CONTEXT = 100  # frames, 8 s: longer than any question and its answer

_SIZES: dict[str, Any] = {
    "dim": 256, "n_q": 16, "dep_q": 8, "card": 512, "num_heads": 4, "num_layers": 6, "hidden_scale": 3,
    "causal": True, "layer_scale": None, "context": CONTEXT, "max_period": 10_000, "gating": "silu",
    "norm": "rms_norm_f32", "positional_embedding": "rope", "depformer_dim": 128,
    "depformer_dim_feedforward": 384, "depformer_num_heads": 4, "depformer_num_layers": 3,
    "depformer_causal": True, "depformer_layer_scale": None, "depformer_multi_linear": True,
    "depformer_context": 8, "depformer_max_period": 10_000, "depformer_gating": "silu",
    "depformer_pos_emb": "none", "depformer_weights_per_step": True,
    "depformer_weights_per_step_schedule": [0, 1, 2, 2, 2, 2, 2, 2],
    "delays": [0, 0, 1, 1, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 1, 1],
}  # fmt: skip


def config() -> dict[str, Any]:
    """As `config.json` says it."""
    return {
        **_SIZES,
        "text_card": text_card(),
        "existing_text_padding_id": PAD,
        "existing_text_end_padding_id": EPAD,
    }
