"""The table of names, against lists that PyTorch's own models made."""

import json
from pathlib import Path

import numpy as np
import pytest

from moshi_mlx.errors import CheckpointError, some
from moshi_mlx.models.config import MOSHI_7B, LmConfig
from moshi_mlx.models.layers import parameters
from moshi_mlx.models.lm import Lm
from moshi_mlx.weights.key_map import Origin, detect_layout, mlx_origin, torch_origin, torch_shapes
from tests.golden import ASSETS, LM_GOLDENS


def shapes_of(config: LmConfig) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in parameters(Lm(config)).items()}


@pytest.mark.parametrize("name", LM_GOLDENS)
def test_torch_names_and_shapes_are_those_pytorch_made(name: str) -> None:
    with np.load(ASSETS / f"lm_{name}.npz") as golden:
        config = LmConfig.from_dict(json.loads(str(golden["config"])))
        pytorchs = {key: tuple(shape) for key, shape in json.loads(str(golden["shapes"])).items()}
    assert torch_shapes(shapes_of(config), config) == pytorchs


def test_moshi_7b_has_the_355_tensors_of_the_published_file() -> None:
    config = LmConfig.from_dict(MOSHI_7B)
    shapes = torch_shapes(shapes_of(config), config)
    assert len(shapes) == 355
    published = {
        "text_emb.weight": (32001, 4096),
        "emb.15.weight": (2049, 4096),
        "text_linear.weight": (32000, 4096),
        "out_norm.alpha": (1, 1, 4096),
        "transformer.layers.31.norm2.alpha": (1, 1, 4096),
        "transformer.layers.0.self_attn.in_proj_weight": (12288, 4096),
        "transformer.layers.0.self_attn.out_proj.weight": (4096, 4096),
        "transformer.layers.0.gating.linear_in.weight": (22528, 4096),
        "transformer.layers.0.gating.linear_out.weight": (4096, 11264),
        "depformer_in.7.weight": (1024, 4096),
        "depformer_emb.6.weight": (2049, 1024),
        "depformer_text_emb.weight": (32001, 1024),
        "linears.7.weight": (2048, 1024),
        "depformer.layers.5.norm1.alpha": (1, 1, 1024),
        "depformer.layers.0.self_attn.in_proj_weight": (8 * 3072, 1024),
        "depformer.layers.0.self_attn.out_proj.weight": (8 * 1024, 1024),
        "depformer.layers.0.gating.7.linear_in.weight": (5632, 1024),
        "depformer.layers.0.gating.7.linear_out.weight": (1024, 2816),
    }
    assert {key: shapes.get(key) for key in published} == published


@pytest.fixture
def scheduled() -> LmConfig:
    """Steps 2 and 3 use the same weights."""
    return LmConfig.from_dict(
        MOSHI_7B | {"n_q": 4, "dep_q": 4, "delays": [0] * 5, "depformer_weights_per_step_schedule": [0, 1, 2, 2]}
    )


def test_steps_of_one_weight_index_have_one_source_in_both_layouts(scheduled: LmConfig) -> None:
    for source in (torch_origin, mlx_origin):
        for rest in ("linear_in.weight", "transformer.layers.0.self_attn.in_proj.weight"):
            one, two, three = (source(f"depformer.slices.{step}.{rest}", scheduled) for step in (1, 2, 3))
            assert one != two == three
        assert len({source(f"depformer.slices.{k}.linear_out.weight", scheduled) for k in range(4)}) == 4
        assert len({source(f"depformer.slices.{k}.emb.weight", scheduled) for k in range(4)}) == 4
        norm = "transformer.layers.5.norm1.weight"
        assert len({source(f"depformer.slices.{k}.{norm}", scheduled) for k in range(4)}) == 1


def test_split_attention_projections_of_newer_pytorch_files_are_found(scheduled: LmConfig) -> None:
    present = {
        "depformer.layers.0.self_attn.in_projs.2.weight",
        "depformer.layers.0.self_attn.out_projs.2.weight",
        "transformer.layers.7.self_attn.in_projs.0.weight",
    }
    found = {
        torch_origin(name, scheduled, present).key
        for name in (
            "depformer.slices.3.transformer.layers.0.self_attn.in_proj.weight",
            "depformer.slices.2.transformer.layers.0.self_attn.out_proj.weight",
            "transformer.layers.7.self_attn.in_proj.weight",
        )
    }
    assert found == present


def test_stacked_shape_is_that_of_all_parts() -> None:
    assert Origin("x", part=1, parts=3).stored_shape((4, 5)) == (12, 5)
    assert Origin("x", flat=True).stored_shape((4,)) == (1, 1, 4)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["transformer.layers.0.self_attn.in_proj.lora_A.weight"], "LoRA adapter"),
        (["encoder.model.0.conv.conv.weight"], "Mimi codec"),
        (["a", "b", "c", "d", "e"], "its tensors are a, b, c and 2 more"),
        ([], "its tensors are none"),
    ],
)
def test_files_that_are_no_moshi_are_called_what_they_are(names: list[str], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        detect_layout(names, Path("model.safetensors"))


def test_layouts_are_told_apart() -> None:
    path = Path("model.safetensors")
    assert detect_layout(["audio_embs.0.weight", "text_emb.weight"], path) == "mlx"
    assert detect_layout(["emb.0.weight", "text_emb.weight"], path) == "torch"
    assert detect_layout(["emb.0.weight", "depformer.0.linear_in.weight"], path) == "candle"


def test_long_lists_are_cut() -> None:
    assert some("abc") == "a, b, c"
    assert some("abcd") == "a, b, c and 1 more"
