"""Reading config.json: published configs, and everything that can be wrong with one."""

import contextlib
import copy
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from moshi_mlx.errors import ConfigError
from moshi_mlx.models.conditioner_config import Conditioners, TensorConfig
from moshi_mlx.models.config import MOSHI_7B, LmConfig, LutConfig

HIBIKI_1B: dict[str, Any] = MOSHI_7B | {
    "dim": 2048, "num_heads": 16, "num_layers": 16, "text_card": 48_000, "context": 500, "max_period": 100_000,
    "delays": [0, *([0, 2, 2, 2, 2, 2, 2, 2] * 2)], "depformer_context": 16, "model_type": "hibiki",
    "conditioners": {
        "description": {
            "type": "lut",
            "lut": {
                "n_bins": 31, "dim": 16, "tokenizer": "noop",
                "possible_values": ["very_bad", "bad", "neutral", "good", "very_good"],
            },
        }
    },
    "fuser": {
        "cross_attention_pos_emb": False, "cross_attention_pos_emb_scale": 1,
        "sum": ["description"], "prepend": [], "cross": [],
    },
}  # fmt: skip
HIBIKI_ZERO = MOSHI_7B | {
    "dim": 2048, "num_heads": 16, "num_layers": 28, "hidden_scale": 6, "kv_repeat": 2, "text_card": 48_000,
    "positional_embedding": "rope_concat", "max_period": 20_000, "n_q": 32, "dep_q": 16,
    "delays": [0, *([0, *[2] * 15] * 2)], "depformer_dim_feedforward": None, "depformer_kv_repeat": 1,
    "depformer_weights_per_step_schedule": [*range(8), *[8] * 8], "depformer_norm": "layer_norm",
}  # fmt: skip
STT_1B = MOSHI_7B | {
    "dim": 2048, "num_heads": 16, "num_layers": 16, "text_card": 8000, "context": 750, "n_q": 32, "dep_q": 0,
    "delays": [0] * 33, "extra_heads_num_heads": 4, "extra_heads_dim": 6, "model_type": "stt",
    "stt_config": {"audio_delay_seconds": 0.5},
}  # fmt: skip


def test_moshi_7b_is_read_as_published() -> None:
    config = LmConfig.from_dict(MOSHI_7B)
    assert config.depth is not None
    assert config.transformer.ffn_hidden == 11_264
    assert config.depth.transformer.ffn_hidden == 2816
    assert config.depth.transformer.context == 8
    assert config.depth.schedule == tuple(range(8))
    assert (config.dep_q, config.input_codebooks, config.codebooks, max(config.delays)) == (8, 8, 8, 1)
    assert config.conditioners == {}


def test_a_block_four_times_as_wide_is_gated_to_21_eighths() -> None:
    """As PyTorch's ActivationGating has it; only this ratio is special."""
    assert LmConfig.from_dict(MOSHI_7B | {"hidden_scale": 4}).transformer.ffn_hidden == 21 * 4096 // 8
    assert LmConfig.from_dict(MOSHI_7B | {"hidden_scale": 3}).transformer.ffn_hidden == 2 * 4096


def test_hibiki_1b_has_a_conditioner() -> None:
    values = ("very_bad", "bad", "neutral", "good", "very_good")
    assert LmConfig.from_dict(HIBIKI_1B).conditioners == {"description": LutConfig(31, 16, values)}


def test_only_conditions_with_named_values_can_be_listed() -> None:
    conditioners = {"voice": TensorConfig(16), "mood": LutConfig(3, 16, ("calm", "cross"))}
    moshi = LmConfig.from_dict(MOSHI_7B)
    config = replace(moshi, conditioning=Conditioners(conditioners, crossed=("voice",)))
    assert config.named_conditions == {"mood": ("calm", "cross")}
    assert moshi.named_conditions == {}


def test_hibiki_zero_shares_heads_and_depth_weights() -> None:
    config = LmConfig.from_dict(HIBIKI_ZERO)
    assert config.depth is not None
    assert config.transformer.ffn_hidden == 8192
    assert config.transformer.num_kv_heads == 8
    assert config.depth.transformer.ffn_hidden == 4096
    assert config.depth.transformer.context == 16, "depformer_context is ignored, as in PyTorch"
    assert config.depth.transformer.num_kv_heads == 16
    assert config.depth.schedule[7:] == (7, *[8] * 8)
    assert config.depth.norm == "layer_norm"


def test_stt_generates_text_only() -> None:
    config = LmConfig.from_dict(STT_1B)
    assert config.depth is None
    assert (config.dep_q, config.codebooks, config.extra_heads) == (0, 32, 4)


def test_the_depth_transformer_inherits_what_it_is_not_told() -> None:
    left_out = {"depformer_num_layers", "depformer_num_heads"}
    config = LmConfig.from_dict(
        {key: value for key, value in HIBIKI_ZERO.items() if key not in left_out} | {"depformer_kv_repeat": None}
    )
    assert config.depth is not None
    depth = config.depth.transformer
    assert (depth.num_layers, depth.num_heads, depth.kv_repeat, depth.max_period) == (28, 16, 2, 20_000)


def test_wrapper_keys_and_keys_that_ask_for_nothing_are_fine() -> None:
    plain = LmConfig.from_dict(MOSHI_7B)
    extra = {
        "moshi_name": "a", "mimi_name": "b", "tokenizer_name": "c", "lm_gen_config": {"temp": 0.8},
        "lora": False, "lora_rank": 128, "lora_name": None, "demux_second_stream": False, "quantize": False,
        "model_id": {"x": 1}, "quantization": {"bits": 4}, "something_new": None, "another": [],
        "gradient_checkpointing": True,
    }  # fmt: skip
    assert LmConfig.from_dict(MOSHI_7B | extra) == plain


@pytest.mark.parametrize("key", ["dim", "num_layers", "context", "delays"])
def test_a_missing_field_is_named(key: str) -> None:
    with pytest.raises(ConfigError, match=f"config field '{key}' is missing"):
        LmConfig.from_dict({name: value for name, value in MOSHI_7B.items() if name != key})


LUT = HIBIKI_1B["conditioners"]["description"]["lut"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cross_attention": True}, "'cross_attention' is True; it must be true for models whose fuser"),
        ({"lora": True}, "'lora' is True"),
        ({"lora_name": "lora.safetensors"}, r"'lora_name' is 'lora\.safetensors'"),
        ({"layer_scale": 0.01}, "'layer_scale' is 0.01"),
        ({"text_card_out": 32_001}, "'text_card_out' is 32001; it must be a number, at least 0 and below 32001"),
        ({"wavelets": 3}, "'wavelets' is 3; this is not supported"),
        ({"gating": "gelu"}, "'gating' is 'gelu'; only 'silu' or 'none'"),
        ({"causal": False}, "'causal' is False; only True"),
        ({"norm": "batch_norm"}, "'norm' is 'batch_norm'; only 'rms_norm_f32' or 'layer_norm' is supported"),
        ({"positional_embedding": "alibi"}, "is 'alibi'; only 'rope' or 'rope_concat' or 'sin' or 'none'"),
        ({"depformer_weights_per_step": False}, "'depformer_weights_per_step' is False"),
        ({"depformer_multi_linear": None}, "'depformer_multi_linear' is False"),
        ({"depformer_norm": "other"}, "'depformer_norm' is 'other'"),
        ({"delays": [0] * 16}, r"'delays' is .*; it must be n_q \+ 1 = 17 numbers of frames"),
        ({"delays": [0] * 16 + [-1]}, "'delays' is .*-1.*; it must be .* none negative"),
        ({"delays": "none"}, "'delays' is 'none'; it must be a list of whole numbers"),
        ({"n_q": 4, "delays": [0] * 5}, "'n_q' is 4; it must be at least dep_q = 8"),
        ({"dep_q": 2**31 - 1}, "'n_q' is 16; it must be at least dep_q = 2147483647"),
        ({"num_heads": 6}, "'num_heads' is 6; it must split 4096 channels"),
        ({"depformer_num_heads": 1024}, "'depformer_num_heads' is 1024; it must split 1024 channels"),
        ({"kv_repeat": 3}, "'kv_repeat' is 3; it must divide 32 heads"),
        ({"hidden_scale": 1e-9}, "feed-forward block of the transformer has no width"),
        ({"dim": "large"}, "'dim' is 'large'; it must be a number"),
        ({"dim": 4096.5}, "'dim' is 4096.5; it must be a whole number"),
        ({"dim": True}, "'dim' is True; it must be a number"),
        ({"dim": 0}, "'dim' is 0; it must be a number, at least 1"),
        ({"num_heads": 0}, "'num_heads' is 0; it must be a number, at least 1"),
        ({"kv_repeat": 0}, "'kv_repeat' is 0; it must be a number, at least 1"),
        ({"context": float("inf")}, "'context' is inf; it must be a number"),
        ({"card": float("nan")}, "'card' is nan; it must be a number"),
        ({"num_layers": 2**70}, "is 1180591620717411303424; it must be a number, at least 1 and below 2147483648"),
        ({"num_layers": -1}, "'num_layers' is -1; it must be a number, at least 1"),
        ({"max_period": -1}, "'max_period' is -1; it must be a number, at least 1"),
        ({"existing_text_padding_id": 32_000}, "_id' is 32000; it must be a number, at least 0 and below 32000"),
        ({"depformer_weights_per_step_schedule": [0] * 7}, "_schedule' is .*; it must be 8 indices of weights"),
        ({"depformer_weights_per_step_schedule": [0, 2] * 4}, "without gaps"),
        ({"conditioners": 3}, "'conditioners' is 3; it must be a group of fields"),
        ({"conditioners": {"a": 3}}, "'conditioners.a' is 3; it must be a group of fields"),
        ({"conditioners": {"a": {"type": "wav"}}}, r"'conditioners\.a\.type' is 'wav'; only 'lut' or 'tensor'"),
        ({"conditioners": {"a": {"type": "tensor"}}}, r"'conditioners\.a\.tensor' is missing"),
        ({"conditioners": {"a": {"type": "lut", "lut": LUT}}}, r"sum' is \[\]; .* conditioner \(a\), no other"),
        ({"fuser": {"sum": ["a"]}}, r"'fuser\.sum' is \['a'\]; it must name each conditioner \(none\), no other"),
        ({"fuser": {"cross": ["a"]}}, r"'fuser\.sum' is \[\]; it must name .* those of 'cross' \(\['a'\]\)"),
        ({"fuser": {"prepend": ["a"]}}, r"'fuser\.prepend' is \['a'\]; this is not supported"),
        ({"fuser": {"sum": "a"}}, r"'fuser\.sum' is 'a'; it must be a list of words"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_said_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        LmConfig.from_dict(MOSHI_7B | changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokenizer": "whitespace"}, r"'conditioners\.description\.lut\.tokenizer' is 'whitespace'; only 'noop'"),
        ({"possible_values": []}, r"lut\.possible_values' is \[\]; it must have 1 to n_bins = 31 values"),
        (
            {"possible_values": ["a", "b"], "n_bins": 1},
            r"lut\.possible_values' is .*; .* 1 to n_bins = 1 ",
        ),
        ({"output_bias": True}, r"lut\.output_bias' is True"),
        ({"dim": 0}, r"lut\.dim' is 0"),
        ({"extra": 1}, r"lut\.extra' is 1; this is not supported"),
    ],
)
def test_what_a_conditioner_cannot_be_is_said_by_name(changes: dict[str, Any], message: str) -> None:
    config = copy.deepcopy(HIBIKI_1B)
    config["conditioners"]["description"]["lut"].update(changes)
    with pytest.raises(ConfigError, match=message):
        LmConfig.from_dict(config)


STRANGE = [0, -1, 2**70, 1.5, float("nan"), float("inf"), "", "x", None, [], [0], ["a"], {}, {"a": 1}, True, False]


@pytest.mark.parametrize("key", sorted(HIBIKI_1B))
def test_no_value_of_any_field_makes_a_traceback(key: str) -> None:
    for value in STRANGE:
        with contextlib.suppress(ConfigError):
            LmConfig.from_dict(HIBIKI_1B | {key: value})


def test_configs_are_read_without_mlx() -> None:
    """So that a checkpoint can be found and checked, and a machine diagnosed, where MLX does not load."""
    modules = ("config", "mimi_config")
    program = "import sys; sys.modules['mlx'] = None\n" + "".join(
        f"import moshi_mlx.models.{name}\n" for name in modules
    )
    subprocess.run([sys.executable, "-c", program], check=True)
