"""The networks of text-to-speech models against PyTorch's: cross attention, conditions, paired text tokens."""

import json
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.errors import ConfigError
from moshi_mlx.models.conditioner_config import Vectors
from moshi_mlx.models.config import LmConfig
from moshi_mlx.models.layers import PairEmbedding
from moshi_mlx.weights.key_map import is_unused, torch_shapes
from moshi_mlx.weights.lm_weights import parameter_shapes
from tests.golden import Golden, read_golden
from tests.say_golden import speakers

KINDS = ("crossed", "prefixed")


@pytest.fixture(scope="module", params=KINDS)
def golden(request: pytest.FixtureRequest) -> Golden:
    """One of the two models."""
    return read_golden(f"say_{request.param}")


def conditions(golden: Golden) -> dict[str, Any]:
    """Those that the teacher-forced answers were made with."""
    if not golden.lm.config.conditioners:
        return {}
    return {"speaker_wavs": speakers([1, 2]), "cfg": "2.0", "control": "ok"}


def test_teacher_forced_logits_are_those_of_pytorch(golden: Golden) -> None:
    lm, answers = golden.lm, golden.answers
    tokens = mx.array(answers["tokens"].astype(np.int32))
    state = lm.new_state(1)
    state.crossed = lm.crossed(conditions(golden))
    hidden = lm.temporal(tokens, state, lm.condition(conditions(golden)))
    text = lm.text_linear(hidden)
    audio = lm.depformer.logits(hidden, tokens[:, : 1 + lm.config.dep_q])
    kept = answers["audio_logits"].shape[1]
    for ours, name in ((hidden, "hidden"), (text, "text_logits"), (audio[:, :, -kept:], "audio_logits")):
        np.testing.assert_allclose(np.array(ours[0]), answers[name], rtol=1e-4, atol=2e-5, err_msg=name)


@pytest.mark.parametrize("golden", ["crossed"], indirect=True)
def test_one_position_at_a_time_gives_the_same(golden: Golden) -> None:
    lm, answers = golden.lm, golden.answers
    state = lm.new_state(1)
    state.crossed = lm.crossed(conditions(golden))
    condition = lm.condition(conditions(golden))
    for position, column in enumerate(answers["tokens"][0].T):
        hidden = lm.temporal(mx.array(column.astype(np.int32))[None, :, None], state, condition)
        np.testing.assert_allclose(np.array(hidden[0, 0]), answers["hidden"][position], rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("golden", ["crossed"], indirect=True)
def test_what_is_attended_to_is_pytorchs_and_depends_on_the_place(golden: Golden) -> None:
    provider = golden.lm.condition_provider
    source = provider.crossed(golden.lm.config.conditions(conditions(golden)))
    assert source is not None
    np.testing.assert_allclose(np.array(source[0]), golden.answers["cross"], rtol=1e-5, atol=1e-5)
    padding = np.array(source[0, 10:])  # of the three speakers that are not there
    assert (np.abs(padding[0] - padding[1]) > 0.01).any()


def test_conditions_of_the_wrong_kind_are_refused_by_name() -> None:
    config = read_golden("say_crossed").lm.config
    with pytest.raises(ConfigError, match="'speaker_wavs' takes vectors of 16 values, not 'me'"):
        config.conditions({"speaker_wavs": "me"})
    with pytest.raises(ConfigError, match=r"of 16 values, not those of shape \(3, 8\)"):
        config.conditions({"speaker_wavs": Vectors(np.zeros((3, 8), np.float32), np.ones(3, bool))})
    with pytest.raises(ConfigError, match=r"'cfg' has no value '1\.7'"):
        config.conditions({"cfg": "1.7"})
    with pytest.raises(ConfigError, match="this model has learned it, as its condition 'cfg'"):
        config.check_guidance(2)
    assert config.conditions({"speaker_wavs": speakers([1])})["cfg"] is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"cross_attention": False},
            "'cross_attention' is False; it must be true for models whose fuser has 'cross'",
        ),
        ({"kv_repeat": 2}, "'kv_repeat' is 2; it must be 1 where cross_attention is true"),
        ({"fuser": {"sum": ["cfg", "control", "speaker_wavs"]}}, "speaker_wavs has many positions"),
        ({"fuser": {"sum": ["cfg"], "cross": ["speaker_wavs"]}}, "it must name each conditioner"),
        ({"tts_config": {"multistream": True}}, r"'tts_config\.multistream' is True; this is not supported"),
        ({"tts_config": {"audio_delay": "1"}}, r"'tts_config\.audio_delay' is '1'; it must be a number"),
        ({"text_card_out": 13}, "'text_card_out' is 13; .* below 13"),
        ({"text_card_out": 3}, "'existing_text_padding_id' is 3; .* below 3"),
    ],
)
def test_what_a_config_cannot_ask_for_is_said_by_name(changes: dict[str, Any], message: str) -> None:
    with np.load("tests/assets/say_crossed.npz") as file:
        config = json.loads(str(file["config"])) | {"existing_text_padding_id": 3}
    LmConfig.from_dict(config)
    with pytest.raises(ConfigError, match=message):
        LmConfig.from_dict(config | changes)


def test_a_pair_is_the_sum_of_both_and_minus_one_is_nothing() -> None:
    table = PairEmbedding(5, 8)
    ids = mx.array([-1, 3, (2 + 1) * 5 + 3])
    nothing, one, pair = np.array(table(ids, mx.float32))
    assert (nothing == 0).all()
    np.testing.assert_allclose(one, np.array(table.out1(table.weight[3])), atol=1e-6)
    np.testing.assert_allclose(pair - one, np.array(table.out2(table.weight[2])), atol=1e-6)


def test_the_published_file_has_as_many_tensors_as_we_read() -> None:
    lut = {"dim": 16, "tokenizer": "noop", "n_bins": 7, "possible_values": [f"{k / 2}" for k in range(2, 9)]}
    control = {"dim": 2048, "tokenizer": "noop", "n_bins": 1, "possible_values": ["ok"]}
    config = LmConfig.from_dict(
        json.loads(str(np.load("tests/assets/say_crossed.npz")["config"]))
        | {"dim": 2048, "num_heads": 16, "num_layers": 16, "text_card": 8000, "card": 2048, "context": 500}
        | {"depformer_dim": 1024, "depformer_num_heads": 16, "depformer_num_layers": 4}
        | {"depformer_dim_feedforward": 3072, "depformer_low_rank_embeddings": 128}
        | {
            "conditioners": {
                "speaker_wavs": {"type": "tensor", "tensor": {"dim": 512}},
                "cfg": {"type": "lut", "lut": lut},
                "control": {"type": "lut", "lut": control},
            }
        }
    )
    shapes = torch_shapes(parameter_shapes(config), config)
    unread = "depformer_text_emb.low_rank.weight"
    assert unread not in shapes
    assert is_unused(unread, config)
    assert len(shapes) + 1 == 418
    conditioners = [key for key in shapes if key.startswith("condition_provider.")]
    assert len(conditioners) == 8, "those that are kept in float32"
    assert shapes["transformer.layers.3.cross_attention.in_proj_weight"] == (3 * 2048, 2048)
    assert shapes["text_emb.out2.weight"] == (2048, 2048)
    assert shapes["depformer_text_emb.out1.weight"] == (1024, 128)
