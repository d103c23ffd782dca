"""Models to measure: published shapes with random weights, built in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.utils import tree_unflatten

from moshi_mlx.checkpoint.random_checkpoint import TINY, lm_arrays
from moshi_mlx.errors import ConfigError, QuantizationError
from moshi_mlx.models.config import MOSHI_7B, PERSONAPLEX_7B, LmConfig
from moshi_mlx.models.lm import Lm
from moshi_mlx.quantize.quantizer import quantize_lm
from moshi_mlx.weights.key_map import mlx_origin
from moshi_mlx.weights.quantization import NAMED, UNQUANTIZED, Scheme

_HIBIKI_DELAYS = [0, *[0, *[2] * 7] * 2]
_HIBIKI_LONG_DELAYS = [0, *[0, *[2] * 15] * 2]
_SHARED_STEPS = [*range(8), *[8] * 8]
_STT = MOSHI_7B | {"dim": 2048, "n_q": 32, "dep_q": 0, "delays": [0] * 33, "max_period": 100_000}
_TTS_CONDITIONERS = {
    "speaker_wavs": {"type": "tensor", "tensor": {"dim": 512}},
    "cfg": {
        "type": "lut",
        "lut": {"n_bins": 7, "dim": 16, "tokenizer": "noop", "possible_values": [f"{k / 2}" for k in range(2, 9)]},
    },
    "control": {
        "type": "lut", "lut": {"n_bins": 1, "dim": 2048, "tokenizer": "noop", "possible_values": ["ok"]},
    },
}  # fmt: skip

SHAPES: dict[str, dict[str, Any]] = {
    "moshi-7b": MOSHI_7B,
    "personaplex-7b": PERSONAPLEX_7B,
    "moshi-tiny": TINY | {"card": 2048},  # a codec of the published shape fits it
    "hibiki-1b": MOSHI_7B
    | {"dim": 2048, "num_heads": 16, "num_layers": 16, "text_card": 48_000, "context": 500}
    | {"max_period": 100_000, "delays": _HIBIKI_DELAYS},
    "hibiki-2b": MOSHI_7B
    | {"dim": 2560, "num_heads": 20, "num_layers": 24, "text_card": 48_000, "context": 1500}
    | {"max_period": 100_000, "n_q": 32, "dep_q": 16, "delays": _HIBIKI_LONG_DELAYS}
    | {"depformer_weights_per_step_schedule": _SHARED_STEPS}
    | {"depformer_num_layers": 4, "depformer_dim_feedforward": 3072, "depformer_low_rank_embeddings": 128},
    "hibiki-zero-3b": MOSHI_7B
    | {"dim": 2048, "num_heads": 16, "num_layers": 28, "kv_repeat": 2, "hidden_scale": 6, "text_card": 48_000}
    | {"positional_embedding": "rope_concat", "max_period": 20_000, "n_q": 32, "dep_q": 16}
    | {"delays": _HIBIKI_LONG_DELAYS, "depformer_weights_per_step_schedule": _SHARED_STEPS}
    | {"depformer_dim_feedforward": None, "depformer_kv_repeat": 1, "depformer_norm": "layer_norm"},
    "stt-1b": _STT
    | {"num_heads": 16, "num_layers": 16, "context": 750, "text_card": 8000, "extra_heads_num_heads": 4},
    "stt-2.6b": _STT | {"num_heads": 32, "num_layers": 48, "context": 375, "text_card": 4000},
    "tts-1.6b": MOSHI_7B
    | {"dim": 2048, "num_heads": 16, "num_layers": 16, "text_card": 8000, "context": 500}
    | {"n_q": 32, "dep_q": 32, "delays": [0, 0, *[2] * 31], "demux_second_stream": True, "cross_attention": True}
    | {"depformer_weights_per_step_schedule": [*range(8), *[8] * 8, *[9] * 8, *[10] * 8]}
    | {"depformer_num_layers": 4, "depformer_dim_feedforward": 3072, "depformer_low_rank_embeddings": 128}
    | {"conditioners": _TTS_CONDITIONERS, "model_type": "tts"}
    | {"fuser": {"sum": ["control", "cfg"], "cross": ["speaker_wavs"], "cross_attention_pos_emb": True}}
    | {"tts_config": {"audio_delay": 1.28, "second_stream_ahead": 2}},
    "helium-2b": {
        "dim": 2560, "num_heads": 20, "num_layers": 24, "hidden_scale": 4.125, "context": 4096,
        "text_card": 48_000, "n_q": 0, "dep_q": 0, "delays": [0], "max_period": 100_000,
        "gating": "silu", "norm": "rms_norm_f32", "positional_embedding": "rope",
    },
}  # fmt: skip
"""Published shapes by name, as config.json fields.

Hibiki's conditioner adds one vector and is left out.
Of tts-1.6b, frames are those with audio. helium-2b is a text model: a "frame" of it is one text token.
"""

_MADE = {name: scheme for name, scheme in NAMED.items() if scheme.mode in ("affine", "mxfp4")}
KINDS: dict[str, Scheme | None] = {UNQUANTIZED: None, "f32": None, **_MADE}
"""What random weights can be made as; None: not quantized."""


def kind_named(name: str) -> str:
    """Return which of KINDS a person means, who may give the bits alone, "4". Raises QuantizationError."""
    for kind in (name.lower(), f"q{name}"):
        if kind in KINDS:
            return kind
    raise QuantizationError(f"weights cannot be {name!r} here; choose one of {', '.join(KINDS)}")


def shape(name: str) -> dict[str, Any]:
    """Return the config of a shape, as config.json fields. Raises ConfigError for a name that is not in SHAPES."""
    if name not in SHAPES:
        raise ConfigError(f"there is no shape {name!r}; choose one of {', '.join(SHAPES)}")
    return SHAPES[name]


def narrowed(config: Mapping[str, Any], width: int, **changes: Any) -> dict[str, Any]:
    """Return a config of the same layers and streams, so the same operations, `width` channels wide."""
    return {
        **config, "dim": width, "num_heads": 4, "depformer_dim": width, "depformer_num_heads": 4,
        "depformer_dim_feedforward": int(4.125 * width), **changes,
    }  # fmt: skip


def skeleton(config: LmConfig, kind: str) -> Lm:
    """Build a model whose arrays are only shapes and types: nothing is evaluated. kind: one of KINDS.

    Raises QuantizationError for another kind, or for layers that it does not divide.
    """
    scheme = KINDS[kind_named(kind)]
    lm = Lm(config)
    if kind != "f32":
        lm.set_dtype(mx.bfloat16)
    if scheme:
        quantize_lm(lm, scheme)
    # As LmWeights.default_dtype: MLX's quantized matmul on the CPU is right in float32 only.
    exact = kind == "f32" or (scheme is not None and mx.default_device() != mx.gpu)
    lm.activation_dtype = mx.float32 if exact else mx.bfloat16
    return lm


def random_lm(config: LmConfig, kind: str, seed: int = 0) -> Lm:
    """Build a model with random weights, holding at most one tensor more than its size. kind: as in `skeleton`."""
    lm, dtype = skeleton(config, kind), mx.float32 if kind == "f32" else mx.bfloat16
    made: dict[str, mx.array] = {}
    filled: list[tuple[str, mx.array]] = []
    for name, array in lm_arrays(config, KINDS[kind], seed):
        key = mlx_origin(name, config).key  # several depth steps may share an array
        if key not in made:
            made[key] = mx.array(array, dtype if array.dtype == np.float32 else None)
            mx.eval(made[key])
        filled.append((name, made[key]))
    lm.update(tree_unflatten(filled))
    lm.eval()
    return lm
