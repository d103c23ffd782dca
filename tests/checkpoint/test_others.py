"""Models that are not played here are called by name; what other programs leave in a config is passed over."""

import json
from pathlib import Path

import mlx.core as mx
import pytest

from moshi_mlx.checkpoint.catalogue import describe
from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.checkpoint.others import BY_REPOSITORY, SPLIT
from moshi_mlx.checkpoint.random_checkpoint import TINY
from moshi_mlx.errors import CheckpointError, ConfigError, QuantizationError
from moshi_mlx.models.config import LmConfig
from tests.config_file import edit


@pytest.mark.parametrize(
    ("repo", "name"),
    [
        ("kyutai/helium-1-preview-2b-mlx", "Helium, a text model"),
        ("kyutai/moshika-vis-mlx-bf16", "MoshiVis"),
        ("kyutai/pocket-tts", "Pocket TTS, another architecture"),
        ("kyutai/moshika-rag-pytorch-bf16", "MoshiRAG"),
        ("mlx-community/NemotronLabs-VoiceChat-11B-4bit", "NemotronLabs VoiceChat, another architecture"),
        ("mlx-community/csm-1b", "CSM"),
        ("sesame/csm-1b", "CSM"),
    ],
)
def test_other_models_are_called_by_their_names_before_anything_is_fetched(repo: str, name: str) -> None:
    with pytest.raises(CheckpointError, match=rf"^{repo} is {name}"):  # tests have no network
        Checkpoint.resolve(repo)
    assert any(repo.lower().startswith(start) for start in BY_REPOSITORY)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "helium", "hidden_size": 2560}, r"is that of Helium, .*run_helium"),
        ({"model_type": "moshi", "hidden_size": 4096}, r"is that of a model in the layout of transformers"),
        ({"model_type": "kyutai_speech_to_text"}, r"is that of a model in the layout of transformers"),
        ({"model_type": "nemotron_voicechat"}, r"is that of NemotronLabs VoiceChat"),
    ],
)
def test_configs_of_other_models_are_called_by_their_names(folder: Path, config: dict, message: str) -> None:
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=message) as caught:
        Checkpoint.resolve(folder)
    assert str(folder) in str(caught.value)


def test_a_model_that_looks_at_images_is_called_by_its_name(folder: Path) -> None:
    path = folder / "model.safetensors"
    arrays: dict[str, mx.array] = dict(mx.load(str(path)))  # type: ignore[arg-type]
    mx.save_safetensors(str(path), arrays | {"transformer.layers.0.cross_attention.mha.q_proj.weight": mx.ones(4)})
    with pytest.raises(CheckpointError, match="is of MoshiVis, which looks at images"):
        Checkpoint.resolve(folder)


def test_a_model_cut_in_parts_for_another_program_says_so(folder: Path) -> None:
    edit(folder, moshi_name=None)
    (folder / "model.safetensors").rename(folder / SPLIT[0])
    for name in SPLIT[1:]:
        (folder / name).write_bytes(b"")
    with pytest.raises(CheckpointError, match="is cut into temporal, depformer and embeddings for speech-swift"):
        Checkpoint.resolve(folder)
    (folder / SPLIT[2]).unlink()
    with pytest.raises(CheckpointError, match="has none of model"):
        Checkpoint.resolve(folder)


def test_the_arguments_of_llm_jp_moshi_stand_for_a_config(folder: Path) -> None:
    expected = Checkpoint.resolve(folder)
    files = ("moshi_name", "mimi_name", "mimi_config_name", "tokenizer_name")
    settings = json.loads((folder / "config.json").read_text())
    arguments = {key: value for key, value in settings.items() if key not in files}
    (folder / "moshi_lm_kwargs.json").write_text(json.dumps(arguments))
    edit(folder, **dict.fromkeys(arguments))  # the config names files only
    assert Checkpoint.resolve(folder).lm_config == expected.lm_config
    assert {"config.json", "moshi_lm_kwargs.json"} < {one["name"] for one in describe(str(folder))["files"]}

    def found() -> LmConfig:
        mimi, tokenizer = str(expected.mimi_weights), str(expected.tokenizer)
        return Checkpoint.find(folder, mimi_weights=mimi, tokenizer=tokenizer).lm_config

    (folder / "config.json").unlink()
    assert found() == expected.lm_config
    (folder / "moshi_lm_kwargs.json").unlink()
    assert found() != expected.lm_config


def test_a_config_goes_before_the_arguments_beside_it(folder: Path) -> None:
    (folder / "moshi_lm_kwargs.json").write_text(json.dumps(TINY | {"dim": 999}))
    assert Checkpoint.resolve(folder).lm_config.transformer.dim == TINY["dim"]


def test_manifests_of_other_programs_are_passed_over(tiny_q4: Path, tmp_path: Path) -> None:
    for path in tiny_q4.iterdir():
        (tmp_path / path.name).symlink_to(path)
    settings = json.loads((tiny_q4 / "config.json").read_text())
    (tmp_path / "config.json").unlink()

    def scheme(**changes: object) -> str:
        (tmp_path / "config.json").write_text(json.dumps(settings | changes))
        return str(Checkpoint.resolve(tmp_path).scheme)

    block = {"bits": 8, "group_size": 64, "quantized_components": ["temporal"]}
    assert scheme(hibiki_mlx_quantization={"bits": 8}, quantization=block).startswith("q4")
    with pytest.raises(QuantizationError, match=r"config says q8 .* but its shapes are q4"):
        scheme(quantization={"bits": 8, "group_size": 64})
    with pytest.raises(ConfigError, match="hibiki_mlx_quantizer"):
        scheme(hibiki_mlx_quantizer={"bits": 8})
