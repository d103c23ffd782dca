"""Sizes that a config asks for: refused just above what a file or the machine holds, before anything is made."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from moshi_mlx import machine
from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.checkpoint.random_checkpoint import TINY, TINY_HIBIKI, TINY_MIMI, TINY_STT
from moshi_mlx.errors import CheckpointError, ConfigError
from moshi_mlx.models.cache import KVCache
from moshi_mlx.models.config import LONGEST_DELAY, LmConfig
from moshi_mlx.models.config_reader import DEEPEST, read_json
from moshi_mlx.models.mimi_config import FURTHEST, MOST_RATIOS, MimiConfig, check_published
from moshi_mlx.models.window import check_window, window_bytes
from moshi_mlx.weights.key_map import plain_names, read_any
from moshi_mlx.weights.lm_weights import LmWeights
from moshi_mlx.weights.safetensors import TensorInfo
from moshi_mlx.weights.sizes import STEPS_PER_TENSOR, check_sizes, numbers


def tensors_of(folder: Path) -> dict[str, TensorInfo]:
    path = folder / "model.safetensors"
    return plain_names(read_any(path), path)


def refused(folder: Path, config: dict[str, Any], **changes: Any) -> str:
    with pytest.raises(ConfigError) as error:
        check_sizes(LmConfig.from_dict({**config, **changes}), tensors_of(folder), Path("file"))
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("layout", ["tiny_folder", "tiny_q4"])
def test_the_files_of_every_layout_are_large_enough_for_their_config(
    layout: str, request: pytest.FixtureRequest
) -> None:
    check_sizes(LmConfig.from_dict(TINY), tensors_of(request.getfixturevalue(layout)), Path("file"))


def test_so_are_those_of_the_family(hibiki_folder: Path, stt_folder: Path) -> None:
    check_sizes(LmConfig.from_dict(TINY_HIBIKI), tensors_of(hibiki_folder), Path("file"))
    check_sizes(LmConfig.from_dict(TINY_STT), tensors_of(stt_folder), Path("file"))


@pytest.mark.parametrize("layout", ["tiny_folder", "tiny_q4"])
@pytest.mark.parametrize(
    ("field", "what"), [("num_layers", "layers"), ("depformer_num_layers", "layers in each depth step")]
)
def test_one_layer_more_than_the_file_has_is_refused(
    field: str, what: str, layout: str, request: pytest.FixtureRequest
) -> None:
    said = refused(request.getfixturevalue(layout), TINY, **{field: 3})
    assert said == f"config field '{field}' is 3; it needs 3 {what}, but file has 2"


def test_one_head_more_than_the_file_has_is_refused(stt_folder: Path) -> None:
    said = refused(stt_folder, TINY_STT, extra_heads_num_heads=5)
    assert said == "config field 'extra_heads_num_heads' is 5; it needs 5 heads, but file has 4"


def test_more_codebooks_than_tensors_are_refused(stt_folder: Path) -> None:
    there = len(tensors_of(stt_folder))
    said = refused(stt_folder, TINY_STT, n_q=there + 1, delays=[0] * (there + 2))
    assert said.startswith(
        f"config field 'n_q' is {there + 1}; it needs {there + 1} tensors and more, but file has"
    )
    config = {**TINY_STT, "n_q": there, "delays": [0] * (there + 1)}
    check_sizes(LmConfig.from_dict(config), tensors_of(stt_folder), Path("file"))  # it lacks them, is told later


def test_depth_layers_times_steps_are_bounded_by_the_tensors() -> None:
    tensors = {f"depformer.layers.{layer}.x": TensorInfo("F32", (999, 999)) for layer in range(9)}
    tensors |= {f"transformer.layers.{layer}.x": TensorInfo("F32", (999, 999)) for layer in range(2)}
    tensors |= {f"emb.{book}.weight": TensorInfo("F32", (1, 1)) for book in range(80)}
    steps = STEPS_PER_TENSOR * len(tensors) // 9 + 1
    config = LmConfig.from_dict({**TINY, "depformer_num_layers": 9})
    assert config.depth
    check_sizes(config, tensors, Path("file"))
    config = replace(config, depth=replace(config.depth, steps=steps))
    with pytest.raises(ConfigError, match=f"'depformer_num_layers' is 9; {steps} depth steps of as many layers"):
        check_sizes(config, tensors, Path("file"))


WIDTHS = {  # field -> the least value above what a file of 64 x 64 numbers holds, and the matrix it needs
    "hidden_scale": (1.54, "65 x 64"),
    "text_card": (65, "65 x 64"),
    "card": (65, "65 x 64"),
    "depformer_dim": (68, "68 x 68"),
    "depformer_dim_feedforward": (98, "65 x 64"),
    "depformer_low_rank_embeddings": (65, "65 x 64"),
}


@pytest.mark.parametrize(("field", "value", "matrix"), [(key, *rest) for key, rest in WIDTHS.items()])
def test_a_width_beyond_the_largest_tensor_is_refused(
    field: str, value: float, matrix: str, tiny_folder: Path
) -> None:
    small = {**TINY, "hidden_scale": 1.5, "text_card": 64, "depformer_dim_feedforward": 96}
    tensors = {name: TensorInfo("F32", (64, 64)) for name in tensors_of(tiny_folder)}
    check_sizes(LmConfig.from_dict(small), tensors, Path("file"))  # what is no wider is compared tensor by tensor
    with pytest.raises(ConfigError, match=f"config field '{field}' makes .* matrix of {matrix} = .*4096$"):
        check_sizes(LmConfig.from_dict({**small, field: value}), tensors, Path("file"))


def test_the_width_of_the_model_itself_is_refused(tiny_folder: Path) -> None:
    tensors = {name: TensorInfo("F32", (64, 64)) for name in tensors_of(tiny_folder)}
    with pytest.raises(ConfigError, match="config field 'dim' makes a width of 72; it needs a matrix of 72 x 72"):
        check_sizes(LmConfig.from_dict({**TINY, "dim": 72}), tensors, Path("file"))


@pytest.mark.parametrize(("field", "value"), [("n_bins", 65), ("dim", 65)])
def test_conditioners_likewise(field: str, value: int, hibiki_folder: Path) -> None:
    lut = {**TINY_HIBIKI["conditioners"]["description"]["lut"], "n_bins": 64, "dim": 64}
    small = {**TINY_HIBIKI, "hidden_scale": 1.5, "text_card": 64, "depformer_dim_feedforward": 96}

    def config(**changes: int) -> LmConfig:
        conditioners = {"description": {"type": "lut", "lut": {**lut, **changes}}}
        return LmConfig.from_dict({**small, "conditioners": conditioners})

    tensors = {name: TensorInfo("F32", (64, 64)) for name in tensors_of(hibiki_folder)}
    check_sizes(config(), tensors, Path("file"))
    with pytest.raises(ConfigError, match=rf"'conditioners\.description\.lut\.{field}' makes"):
        check_sizes(config(**{field: value}), tensors, Path("file"))


def test_extra_heads_likewise(stt_folder: Path) -> None:
    small = {**TINY_STT, "hidden_scale": 1.5, "text_card": 64, "extra_heads_dim": 64}
    tensors = {name: TensorInfo("F32", (64, 64)) for name in tensors_of(stt_folder)}
    check_sizes(LmConfig.from_dict(small), tensors, Path("file"))
    with pytest.raises(ConfigError, match="'extra_heads_dim' makes 65 classes"):
        check_sizes(LmConfig.from_dict({**small, "extra_heads_dim": 65}), tensors, Path("file"))


def test_packed_matrices_count_for_what_they_can_stand_for() -> None:
    assert numbers(TensorInfo("U32", (64, 4))) == 64 * 64  # two bits each
    assert numbers(TensorInfo("BF16", (64, 4))) == 64 * 4


def test_sizes_come_before_a_model_is_made(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moshi_mlx.weights.lm_weights.Lm", None)  # which no size may reach
    config = LmConfig.from_dict({**TINY, "num_layers": 3})
    with pytest.raises(ConfigError, match="'num_layers' is 3"):
        LmWeights(folder / "model.safetensors", config)


def test_weights_larger_than_the_memory_are_not_loaded(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = Checkpoint.resolve(tiny_folder).weights
    window = weights.config.transformer
    need = weights.nbytes + window_bytes(window, window.context, 8.5)
    monkeypatch.setattr(machine, "_physical_memory", lambda: need)
    monkeypatch.setattr(machine, "_card", lambda: "")
    weights.load()
    monkeypatch.setattr(machine, "_physical_memory", lambda: need - 1)
    with pytest.raises(ConfigError, match="'context' is 64; weights and window would need"):
        weights.load()
    monkeypatch.setattr(machine, "_physical_memory", lambda: weights.nbytes - 1)
    with pytest.raises(CheckpointError, match=r"needs 0\.0 GB for its weights, but this machine has 0\.0 GB"):
        weights.load()
    monkeypatch.setattr(machine, "_card", lambda: "NVIDIA L4, 23034")  # which has room for them
    weights.load()


def test_a_window_larger_than_the_memory_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    config = LmConfig.from_dict(TINY).transformer
    need = window_bytes(config, config.context, 32, rows=3)
    cache = KVCache(config, 3)
    assert sum(array.nbytes for array in cache.arrays()) == need
    monkeypatch.setattr(machine, "_physical_memory", lambda: need - 1)
    monkeypatch.setattr(machine, "_card", lambda: "")
    KVCache(config, 3, dtype=mx.bfloat16)
    with pytest.raises(ConfigError, match="'context' is 64, 3 times; weights and window would need"):
        KVCache(config, 3)
    check_window(config, config.context, 16, rows=3)


@pytest.mark.parametrize("longest", [LONGEST_DELAY, LONGEST_DELAY + 1])
def test_delays_are_at_most_an_hour(longest: int) -> None:
    config = {**TINY, "delays": [longest, *TINY["delays"][1:]]}
    if longest == LONGEST_DELAY:
        assert max(LmConfig.from_dict(config).delays) == longest
        return
    with pytest.raises(ConfigError, match=r"'delays' is .* none negative or above 45000"):
        LmConfig.from_dict(config)


@pytest.mark.parametrize("last", [7, 8, -1])
def test_a_schedule_of_depth_steps_has_no_gaps(last: int) -> None:
    config = {**TINY, "depformer_weights_per_step_schedule": [*range(7), last]}
    if last == 7:
        LmConfig.from_dict(config)
        return
    with pytest.raises(ConfigError, match="counted from 0 without gaps"):
        LmConfig.from_dict(config)


def mimi(**changes: Any) -> MimiConfig:
    return MimiConfig.from_dict({**TINY_MIMI, "seanet": {**TINY_MIMI["seanet"], **changes}})


def test_a_codec_looks_back_for_ten_seconds_at_most() -> None:
    furthest = FURTHEST // 2  # two blocks, the second of kernel 3
    assert mimi(n_residual_layers=2, dilation_base=furthest).seanet.dilation_base == furthest
    with pytest.raises(ConfigError, match=r"'seanet\.dilation_base' is 120001; with 2 residual"):
        mimi(n_residual_layers=2, dilation_base=furthest + 1)


def test_a_codec_has_no_more_strides_than_a_frame_has_factors() -> None:
    with pytest.raises(ConfigError, match="1024 samples in all"):
        mimi(ratios=[2] * MOST_RATIOS)
    with pytest.raises(ConfigError, match="it must be at most 10 strides"):
        mimi(ratios=[2] * (MOST_RATIOS + 1))


@pytest.mark.parametrize(
    ("group", "field"), [("quantizer", "n_q"), ("transformer", "num_layers"), ("seanet", "n_residual_layers")]
)
def test_a_codec_asks_for_no_more_than_there_are_tensors(group: str, field: str) -> None:
    weights = {f"{index}": TensorInfo("F32", ()) for index in range(9)}
    settings = {**TINY_MIMI[group], "dilation_base": 1} if group == "seanet" else TINY_MIMI[group]
    config = MimiConfig.from_dict({**TINY_MIMI, group: {**settings, field: 10}})
    with pytest.raises(ConfigError, match=rf"'{group}\.{field}' is 10; .* but the weights are 9 tensors"):
        check_published(weights, config)
    config = MimiConfig.from_dict({**TINY_MIMI, group: {**settings, field: 9}})
    with pytest.raises(CheckpointError, match="the Mimi weights lack"):
        check_published(weights, config)


@pytest.mark.parametrize("depth", [DEEPEST, DEEPEST + 1])
def test_json_is_nested_so_deep_and_no_deeper(depth: int, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"a":' * (depth - 1) + "[]" + "}" * (depth - 1))
    if depth == DEEPEST:
        assert read_json(path) == json.loads(path.read_text())
        return
    with pytest.raises(CheckpointError, match="is nested deeper than 64 levels; fetch it again"):
        read_json(path)


def test_a_long_value_is_shown_in_part() -> None:
    with pytest.raises(ConfigError) as error:
        LmConfig.from_dict({**TINY, "dim": "x" * 100_000})
    assert len(str(error.value)) < 300
    with pytest.raises(ConfigError, match=r"\[0, 0, 1, 1, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 1\]"):
        LmConfig.from_dict({**TINY, "delays": TINY["delays"][:-1]})  # one that is not, whole
