"""Random checkpoints: everything a model folder needs, with weights that mean nothing.

For tests (tiny) and for benchmarks (Moshi's full shape, already quantized). Tensors are made and written one by
one, so memory stays small at any size. For a model that means something and needs no download, see `nano`.
The values depend on the seed and on the names in PyTorch's layout only: both layouts hold the same model.
"""

import io
import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from moshi_mlx.errors import CheckpointError, ConfigError, QuantizationError
from moshi_mlx.models.conditioner_config import QUALITIES
from moshi_mlx.models.config import HIBIKI, PERSONA, LmConfig
from moshi_mlx.models.mimi_config import MimiConfig, published_shapes
from moshi_mlx.models.tts_config import TTS
from moshi_mlx.weights.atomic import AtomicPath
from moshi_mlx.weights.key_map import Origin, torch_origin, torch_shapes
from moshi_mlx.weights.quantization import Scheme, parse_scheme
from moshi_mlx.weights.safetensors import TensorInfo, to_bits, write

LM_NAME = "model.safetensors"
MIMI_NAME = "mimi.safetensors"
MIMI_CONFIG_NAME = "mimi_config.json"
TOKENIZER_NAME = "tokenizer.model"

TINY = {
    "dim": 64, "text_card": 256, "existing_text_padding_id": 3, "n_q": 16, "dep_q": 8, "card": 64,
    "num_heads": 4, "num_layers": 2, "hidden_scale": 4.5, "causal": True, "layer_scale": None, "context": 64,
    "max_period": 10_000, "gating": "silu", "norm": "rms_norm_f32", "positional_embedding": "rope",
    "depformer_dim": 64, "depformer_dim_feedforward": 192, "depformer_num_heads": 2, "depformer_num_layers": 2,
    "depformer_causal": True, "depformer_layer_scale": None, "depformer_multi_linear": True,
    "depformer_context": 8, "depformer_max_period": 10_000, "depformer_gating": "silu",
    "depformer_pos_emb": "none", "depformer_weights_per_step": True,
    "delays": [0, 0, 1, 1, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 1, 1],
}  # fmt: skip
"""Moshi's config with everything small, each width whole groups of 64; streams and delays are the real ones."""

TINY_PERSONA = {**TINY, "dep_q": 16, "depformer_dim_feedforward": None, "model_type": PERSONA}
"""PersonaPlex's, likewise."""

TINY_HIBIKI = {
    **TINY, "delays": [0] + ([0] + [2] * 7) * 2, "model_type": HIBIKI,
    "conditioners": {
        "description": {
            "type": "lut", "lut": {"n_bins": 31, "dim": 16, "tokenizer": "noop", "possible_values": [*QUALITIES]},
        },
    },
    "fuser": {"sum": ["description"], "cross": [], "prepend": []},
}  # fmt: skip
"""Hibiki 1B's, likewise."""

TINY_STT = {
    **{key: value for key, value in TINY.items() if not key.startswith("depformer_")},
    "dep_q": 0, "n_q": 8, "delays": [0] * 9, "max_period": 100_000, "model_type": "stt",
    "extra_heads_num_heads": 4, "extra_heads_dim": 6,
    "stt_config": {"audio_delay_seconds": 0.5, "audio_silence_prefix_seconds": 0.0},
    "lm_gen_config": {"temp": 0.0, "temp_text": 0.0, "top_k": 250, "top_k_text": 50},
}  # fmt: skip
"""The config of a speech-to-text model with everything small, but for its voice activity heads and its times."""

TINY_TTS = {
    **TINY, "n_q": 8, "dep_q": 8, "delays": [0, 0] + [2] * 7, "model_type": TTS,
    "depformer_low_rank_embeddings": 32, "depformer_weights_per_step_schedule": [0, 1, 2, 3, 4, 4, 5, 5],
    "demux_second_stream": True, "cross_attention": True,
    "conditioners": {
        "speaker_wavs": {"type": "tensor", "tensor": {"dim": 32}},
        "cfg": {
            "type": "lut",
            "lut": {
                "n_bins": 7, "dim": 16, "tokenizer": "noop", "possible_values": [f"{k / 2}" for k in range(2, 9)],
            },
        },
        "control": {
            "type": "lut", "lut": {"n_bins": 1, "dim": 64, "tokenizer": "noop", "possible_values": ["ok"]},
        },
    },
    "fuser": {"sum": ["control", "cfg"], "cross": ["speaker_wavs"], "cross_attention_pos_emb": True},
    "tts_config": {"audio_delay": 0.33, "second_stream_ahead": 2}, "model_id": {"sig": "tiny", "epoch": 1},
}  # fmt: skip
"""Kyutai TTS 1.6B's, likewise, but for a quarter of its codebooks and of its delay."""

TINY_PREFIX_TTS = {
    **TINY, "n_q": 8, "dep_q": 8, "delays": [0, 0] + [2] * 7, "model_type": TTS, "text_card_out": 5,
    "tts_config": {"audio_delay": 0.33},
}  # fmt: skip
"""Kyutai TTS 0.75B's, likewise: a voice is a recording that it goes on from."""

TINY_MIMI = {
    "sample_rate": 24_000, "channels": 1, "frame_rate": 12.5,
    "seanet": {
        "channels": 1, "dimension": 32, "causal": True, "n_filters": 4, "n_residual_layers": 1,
        "activation": "ELU", "compress": 2, "dilation_base": 2, "disable_norm_outer_blocks": 0, "kernel_size": 7,
        "residual_kernel_size": 3, "last_kernel_size": 3, "norm": "none", "pad_mode": "constant",
        "ratios": [8, 6, 5, 4], "true_skip": True,
    },
    "quantizer": {"dimension": 16, "n_q": 8, "bins": 64, "input_dimension": 32, "output_dimension": 32},
    "transformer": {
        "d_model": 32, "num_heads": 2, "num_layers": 2, "causal": True, "layer_scale": 0.01, "context": 250,
        "conv_layout": True, "max_period": 10_000, "gating": "none", "norm": "layer_norm",
        "positional_embedding": "rope", "dim_feedforward": 64, "input_dimension": 32, "output_dimensions": [32],
    },
}  # fmt: skip
"""Kyutai's Mimi with everything small; its codes are those of TINY."""

SENTENCES = (
    "good morning, how did you sleep last night?",
    "the harbour was quiet and the boats moved slowly with the wind.",
    "I would like to know what the weather is going to be tomorrow.",
    "she put the kettle on and opened the window above the garden.",
    "that sounds wonderful, tell me more about your journey!",
    "we walked along the river until the lights came on in the village.",
    "could you explain how the clock in the tower works?",
    "my brother plays the trumpet every evening after supper.",
    "yes, of course, let us begin with something simple.",
    "no, I do not think so, but thank you for asking.",
)
"""What the tokenizer is trained on."""

_DTYPES = {"float32": "F32", "bfloat16": "BF16"}


def write_random_checkpoint(
    folder: Path,
    config: Mapping[str, Any] = TINY,
    mimi_config: Mapping[str, Any] | None = TINY_MIMI,
    *,
    seed: int = 0,
    layout: str = "torch",
    scheme: str | Scheme | None = None,
    dtype: str | None = None,
) -> Path:
    """Write config.json, weights, codec and tokenizer into `folder`; it appears only when it is whole.

    config: as in a config.json. mimi_config: None for Kyutai's full Mimi. layout: "torch" or "mlx".
    scheme: "q4", "q8" or another affine one quantizes every layer, embeddings included (MLX layout only).
    dtype: "float32" or "bfloat16"; unless given, bfloat16 when quantized (as published), else float32.
    Returns the folder. Raises CheckpointError if it exists or cannot be written.
    """
    lm_config = LmConfig.from_dict(config).as_stored
    chosen = parse_scheme(scheme) if scheme else None
    if chosen and (layout != "mlx" or chosen.mode != "affine"):
        raise QuantizationError("only the MLX layout can be quantized, and only with scales and biases")
    if (dtype or "float32") not in _DTYPES or layout not in ("torch", "mlx"):
        raise ConfigError(f"no dtype {dtype!r} or no layout {layout!r}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CheckpointError(f"{folder} exists; choose another place for a random checkpoint")
    stored = _DTYPES[dtype or ("bfloat16" if chosen else "float32")]
    mimi = MimiConfig.from_dict(mimi_config) if mimi_config else MimiConfig()
    names: dict[str, Any] = {"moshi_name": LM_NAME, "mimi_name": MIMI_NAME, "tokenizer_name": TOKENIZER_NAME}
    if mimi_config:
        names["mimi_config_name"] = MIMI_CONFIG_NAME
    if chosen:
        names["quantization"] = chosen.block()
    with AtomicPath(folder, CheckpointError) as part:
        part.mkdir(parents=True)
        _write_lm(part / LM_NAME, lm_config, seed, layout, chosen, stored)
        _write_mimi(part / MIMI_NAME, mimi, seed)
        (part / TOKENIZER_NAME).write_bytes(train_tokenizer(lm_config.text_card))
        if mimi_config:
            (part / MIMI_CONFIG_NAME).write_text(json.dumps(mimi_config, indent=1))
        (part / "config.json").write_text(json.dumps({**config, **names}, indent=1))
    return folder


def train_tokenizer(size: int) -> bytes:
    """Return a sentencepiece model of exactly `size` pieces, with Moshi's special ids.

    All of it is trained where a few sentences can fill it; what they cannot fill is made-up words.
    """
    import sentencepiece

    filler = [f"\u2581word{index}" for index in range(max(0, size - 512))]
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(SENTENCES),
            model_writer=model,
            model_type="bpe",
            vocab_size=size,
            byte_fallback=size >= 512,
            user_defined_symbols=filler,
            unk_id=0,
            bos_id=1,
            eos_id=2,
            pad_id=3,
            num_threads=1,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise ConfigError(f"config field 'text_card' is {size}: too few or too many for a tokenizer") from error
    return model.getvalue()


def lm_tensors(config: LmConfig, layout: str, scheme: Scheme | None, dtype: str) -> dict[str, TensorInfo]:
    """Return what the header of a model file lists. dtype: "F32" or "BF16", of what is not quantized."""
    from moshi_mlx.weights.lm_weights import parameter_shapes

    shapes = parameter_shapes(config)
    if layout == "torch":
        return {key: TensorInfo(dtype, shape) for key, shape in torch_shapes(shapes, config).items()}
    tensors = {}
    for name, shape in shapes.items():
        if scheme and _quantizable(name, shapes, scheme):
            groups = TensorInfo(dtype, (shape[0], shape[1] // scheme.group_size))
            tensors[name] = TensorInfo("U32", (shape[0], shape[1] * scheme.bits // 32))
            tensors[name.removesuffix("weight") + "scales"] = groups
            tensors[name.removesuffix("weight") + "biases"] = groups
        else:
            tensors[name] = TensorInfo(dtype, shape)
    return tensors


def lm_arrays(config: LmConfig, scheme: Scheme | None, seed: int = 0) -> Iterator[tuple[str, np.ndarray]]:
    """Make random parameters under MLX's names, in the order of `lm_tensors`: float32, and integers where packed.

    scheme: of every layer that can be quantized, embeddings included; scales and biases follow their weight.
    """
    from moshi_mlx.weights.lm_weights import parameter_shapes

    shapes = parameter_shapes(config)
    for name, shape in shapes.items():
        source = torch_origin(name, config)
        if scheme and _quantizable(name, shapes, scheme):
            for leaf, array in _quantized(seed, source, shape, scheme).items():
                yield name.removesuffix("weight") + leaf, array
        else:
            yield name, _dense(seed, source, shape)


def _write_lm(path: Path, config: LmConfig, seed: int, layout: str, scheme: Scheme | None, dtype: str) -> None:
    from moshi_mlx.weights.lm_weights import parameter_shapes

    tensors = lm_tensors(config, layout, scheme, dtype)
    if layout == "mlx":
        write(
            path, tensors, (_cast(array, tensors[name].dtype) for name, array in lm_arrays(config, scheme, seed))
        )
        return
    sources = {source.key: source for source in (torch_origin(name, config) for name in parameter_shapes(config))}
    write(path, tensors, (_cast(_stacked(seed, sources[key], tensor), dtype) for key, tensor in tensors.items()))


def _quantizable(name: str, shapes: Mapping[str, tuple[int, ...]], scheme: Scheme) -> bool:
    """Return whether `mlx.nn.quantize` would: matrices of whole groups, but no table with layers of its own."""
    layer, _, leaf = name.rpartition(".")
    shape = shapes[name]
    whole = leaf == "weight" and len(shape) == 2 and shape[1] % scheme.group_size == 0
    return whole and not {f"{layer}.low_rank.weight", f"{layer}.out1.weight"} & shapes.keys()


def _generator(seed: int, source: Origin) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64([seed, zlib.crc32(source.key.encode()), source.part]))


def _dense(seed: int, source: Origin, shape: tuple[int, ...]) -> np.ndarray:
    """Make a float32 parameter, scaled so that activations keep their size through any number of layers."""
    rng = _generator(seed, source)
    if len(shape) == 1:
        centre = 0.0 if source.key.endswith("bias") else 1.0
        return (centre + 0.1 * rng.standard_normal(shape)).astype(np.float32)
    array = rng.random(shape, np.float32)
    array *= 2  # in place: a model has billions of these
    array -= 1
    array *= _reach(source, shape)
    return array


def _reach(source: Origin, shape: tuple[int, ...]) -> np.float32:
    """Return half the width of the interval that weights are drawn from."""
    is_table = "emb" in source.key and "low_rank" not in source.key
    return np.float32(0.5 if is_table else (3 / shape[-1]) ** 0.5)


def _stacked(seed: int, source: Origin, tensor: TensorInfo) -> np.ndarray:
    """Make a whole tensor of PyTorch's layout."""
    if source.flat:
        return _dense(seed, source, tensor.shape[2:]).reshape(tensor.shape)
    block = (tensor.shape[0] // source.parts, *tensor.shape[1:])
    parts = [Origin(source.key, part, source.parts) for part in range(source.parts)]
    return np.concatenate([_dense(seed, part, block) for part in parts])


def _quantized(seed: int, source: Origin, shape: tuple[int, ...], scheme: Scheme) -> dict[str, np.ndarray]:
    """Make random levels, and the scales and biases that spread them over the interval of a dense parameter."""
    rng = _generator(seed, source)
    levels = rng.integers(0, 1 << 32, (shape[0], shape[1] * scheme.bits // 32), np.uint32)
    groups = (shape[0], shape[1] // scheme.group_size)
    reach = _reach(source, shape)
    if scheme.mode == "mxfp4":  # levels from -6 to 6; a scale is the exponent of a power of two
        return {"weight": levels, "scales": np.full(groups, 127 + np.floor(np.log2(reach / 6)), np.uint8)}
    step = 2 * reach / np.float32((1 << scheme.bits) - 1)
    return {
        "weight": levels,
        "scales": np.full(groups, step, np.float32),
        "biases": np.full(groups, -reach, np.float32),
    }


def _cast(array: np.ndarray, dtype: str) -> np.ndarray:
    """Return an array as it is stored; bfloat16 as its bits."""
    return to_bits(array) if dtype == "BF16" else array


def _write_mimi(path: Path, config: MimiConfig, seed: int) -> None:
    shapes = published_shapes(config)
    tensors = {name: TensorInfo("F32", shape) for name, shape in shapes.items()}
    write(path, tensors, (_mimi_array(seed, name, shape) for name, shape in shapes.items()), {"format": "pt"})


def _mimi_array(seed: int, name: str, shape: tuple[int, ...]) -> np.ndarray:
    rng = _generator(seed, Origin(name))
    if name.endswith("_initialized"):
        return np.ones(shape, np.float32)
    if name.endswith("cluster_usage"):
        return rng.uniform(0.5, 2.0, shape).astype(np.float32)
    if name.endswith("bias"):
        return (0.02 * rng.standard_normal(shape)).astype(np.float32)
    if len(shape) == 1:  # norms and layer scales
        centre, spread = (0.3, 0.05) if name.endswith("scale") else (1.0, 0.1)
        return (centre + spread * rng.standard_normal(shape)).astype(np.float32)
    if name.endswith("embedding_sum"):
        return rng.standard_normal(shape).astype(np.float32)
    # A transposed convolution sums kernel / stride = 2 inputs channels, a depthwise one 2 values.
    fan_in = 2 * shape[0] if "convtr.convtr.weight" in name else int(np.prod(shape[1:]))
    fan_in = 2 if name.startswith("upsample") else fan_in
    loudness = 0.15 if name == "decoder.model.14.conv.conv.weight" else 1.0  # the last layer: audio, not too loud
    return (loudness * rng.standard_normal(shape) * fan_in**-0.5).astype(np.float32)
