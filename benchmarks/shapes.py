"""Shapes that benchmarks run at, as config.json fields; both programs build them."""

MOSHI_DELAYS = [0, 0, 1, 1, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 1, 1]


def moshi_shape(width: int, text_card: int = 256, card: int = 128, context: int = 3000) -> dict:
    """Moshi 7B with all widths cut to `width`; layers and streams are the real ones, so the operations are too."""
    return {
        "dim": width, "text_card": text_card, "n_q": 16, "dep_q": 8, "card": card, "num_heads": 4,
        "num_layers": 32, "hidden_scale": 4.125, "causal": True, "context": context, "max_period": 10_000,
        "gating": "silu", "norm": "rms_norm_f32", "positional_embedding": "rope", "depformer_dim": width,
        "depformer_dim_feedforward": int(4.125 * width), "depformer_num_heads": 4, "depformer_num_layers": 6,
        "depformer_multi_linear": True, "depformer_gating": "silu", "depformer_pos_emb": "none",
        "depformer_weights_per_step": True, "delays": MOSHI_DELAYS,
    }  # fmt: skip
