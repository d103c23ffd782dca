"""Makes tests/assets/lm_*.npz: what PyTorch's Moshi answers, for the tests of our language model.

Needs torch 2.13 and moshi 0.2.13 in an environment of their own (never a dependency):

    python tests/make_lm_golden.py

Each file holds a config, the names and shapes of PyTorch's tensors (their values come from `random_weights`),
teacher-forced logits, and a greedy `LMGen` stream. All in float32.
"""

import json
from functools import partial
from pathlib import Path

import numpy as np
import torch
from moshi.conditioners import ConditionAttributes
from moshi.models import LMGen
from moshi.models.loaders import get_moshi_lm
from random_weights import random_tensor

ASSETS = Path(__file__).parent / "assets"
POSITIONS = 40  # teacher-forced
FRAMES = 200  # streamed

COMMON = {
    "dim": 64,
    "num_heads": 4,
    "num_layers": 3,
    "text_card": 48,
    "card": 32,
    "existing_text_padding_id": 3,
    "causal": True,
    "gating": "silu",
    "norm": "rms_norm_f32",
    "context": 24,
    "max_period": 10_000,
    "depformer_dim": 32,
    "depformer_num_heads": 4,
    "depformer_num_layers": 2,
    "depformer_multi_linear": True,
    "depformer_gating": "silu",
    "depformer_pos_emb": "none",
    "depformer_weights_per_step": True,
}
CONFIGS = {
    "moshi": {
        "positional_embedding": "rope",
        "hidden_scale": 4.125,
        "n_q": 16,
        "dep_q": 8,
        "delays": [0] + ([0] + [1] * 7) * 2,
        "depformer_dim_feedforward": 132,
        "depformer_context": 8,
    },
    "scheduled": {
        "positional_embedding": "rope",
        "hidden_scale": 4.125,
        "n_q": 12,
        "dep_q": 6,
        "delays": [0] + ([0] + [2] * 5) * 2,
        "depformer_dim_feedforward": 96,
        "depformer_low_rank_embeddings": 8,
        "depformer_weights_per_step_schedule": [0, 1, 2, 3, 3, 3],
        "depformer_context": 4,
        "conditioners": {
            "description": {
                "type": "lut",
                "lut": {"n_bins": 5, "dim": 16, "tokenizer": "noop", "possible_values": ["bad", "good"]},
            }
        },
        "fuser": {"sum": ["description"], "cross": [], "prepend": []},
    },
    "plain": {  # as in the test of Kyutai's own that needs no published weights
        "gating": "none",
        "norm": "layer_norm",
        "positional_embedding": "sin",
        "hidden_scale": 1,
        "n_q": 6,
        "dep_q": 3,
        "delays": [0, 1, 2, 4, 0, 1, 1],
        "depformer_pos_emb": "sin",
        "depformer_weights_per_step_schedule": [0, 1, 1],
        "depformer_low_rank_embeddings": 8,
    },
    "grouped": {
        "positional_embedding": "rope_concat",
        "max_period": 20_000,
        "hidden_scale": 6,
        "kv_repeat": 2,
        "n_q": 8,
        "dep_q": 4,
        "delays": [0] + ([0] + [2] * 3) * 2,
        "depformer_dim_feedforward": None,
        "depformer_kv_repeat": 1,
        "depformer_norm": "layer_norm",
        "depformer_weights_per_step_schedule": [0, 1, 2, 2],
        "extra_heads_num_heads": 2,
        "extra_heads_dim": 6,
    },
}


def stacked(names: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Names and shapes as in published files: the projections of all depth steps in one tensor."""
    published: dict[str, tuple[int, ...]] = {}
    for name, shape in names.items():
        for held, stored in (("in_projs", "in_proj_weight"), ("out_projs", "out_proj.weight")):
            if f".{held}." in name:
                name = name.split(f".{held}.")[0] + "." + stored
                rows = published.get(name, (0,))[0]
                shape = (rows + shape[0], *shape[1:])
        published[name] = tuple(shape)
    return published


def append_first(texts: list[int], token: torch.Tensor) -> None:
    texts.append(int(token[0]))


def main() -> None:
    torch.set_num_threads(1)
    for name, changes in CONFIGS.items():
        config = COMMON | changes
        lm = get_moshi_lm(None, lm_kwargs=json.loads(json.dumps(config)), device="cpu", dtype=torch.float32)
        shapes = stacked({key: tuple(value.shape) for key, value in lm.state_dict().items()})
        state = {key: torch.from_numpy(random_tensor(key, shape)) for key, shape in shapes.items()}
        lm.load_state_dict(state)
        lm.eval()
        conditions = None
        if "conditioners" in config:
            prepared = lm.condition_provider.prepare([ConditionAttributes(text={"description": "good"})])
            conditions = lm.condition_provider(prepared)

        random = np.random.RandomState(7)
        tokens = random.randint(0, config["card"] + 1, (1, 1 + config["n_q"], POSITIONS))
        tokens[:, 0] = random.randint(0, config["text_card"] + 1, (1, POSITIONS))
        tokens[:, :, 0] = [config["text_card"]] + [config["card"]] * config["n_q"]
        tokens[:, 2, 5:9] = tokens[:, 0, 11] = -1
        sequence = torch.from_numpy(tokens)
        with torch.no_grad():
            total = lm.fuser.get_sum(conditions) if conditions else None
            hidden, text_logits = lm.forward_text(sequence, total)
            audio_logits = lm.forward_depformer_training(sequence, hidden)
            heads = [head(hidden) for head in lm.extra_heads]

        user = random.randint(0, config["card"], (FRAMES, config["n_q"] - config["dep_q"]))
        texts: list[int] = []
        generator = LMGen(
            lm,
            use_sampling=False,
            condition_tensors=conditions,
            check=True,
            on_text_hook=partial(append_first, texts),
        )
        emitted = []
        with torch.no_grad(), generator.streaming(1):
            for codes in user:
                out = generator.step(torch.from_numpy(codes)[None, :, None])
                emitted.append([-2] * config["dep_q"] if out is None else out[0, 1:, 0].tolist())

        path = ASSETS / f"lm_{name}.npz"
        np.savez_compressed(
            path,
            config=json.dumps(config),
            shapes=json.dumps(shapes),
            tokens=tokens.astype(np.int16),
            hidden=hidden[0].numpy(),
            text_logits=text_logits[0, 0].numpy(),
            audio_logits=audio_logits[0].numpy(),
            extra_heads=np.stack([h[0].numpy() for h in heads]) if heads else np.zeros(0, np.float32),
            user=user.astype(np.int16),
            texts=np.array(texts, np.int16),
            emitted=np.array(emitted, np.int16),
        )
        print(path.name, path.stat().st_size, "bytes;", len(set(texts)), "different text tokens")


if __name__ == "__main__":
    main()
