"""Weights that can be read and are doubtful: a note, once, or one line that says why not; good ones are silent."""

import json
import shutil
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import mlx.core as mx
import pytest

from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.errors import CheckpointError
from moshi_mlx.models.layers import parameters
from moshi_mlx.quantize.quantizer import quantize_lm
from moshi_mlx.runtime.moshi import load
from moshi_mlx.weights.quantization import NAMED
from moshi_mlx.weights.safetensors import read_header
from tests.config_file import edit
from tests.weights_file import rewrite

Spoil = Callable[[Path], object]

LM, IN_PROJ = "model.safetensors", "transformer.layers.0.self_attn.in_proj_weight"
DEPTH = "depformer.layers.1.self_attn.in_proj_weight"
Q4, Q8 = "model.q4.safetensors", "model.q8.safetensors"
INDEX, MERGED = "model.safetensors.index.json", "consolidated.safetensors"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["text_linear.weight", "transformer.layers.1.norm2.alpha"])
def test_weights_that_are_no_numbers_are_found_at_load(folder: Path, name: str, value: float) -> None:
    def spoil(arrays: dict[str, mx.array]) -> None:
        flat = arrays[name].reshape(-1)
        flat[3] = value
        arrays[name] = flat.reshape(arrays[name].shape)

    rewrite(folder / LM, spoil)
    with pytest.raises(CheckpointError, match=rf"is damaged, {name} holds NaN or infinities; fetch it again"):
        load(str(folder), codec="mlx")


def zeros(name: str, rows: slice = slice(None), value: float = 0.0) -> Spoil:
    def change(arrays: dict[str, mx.array]) -> None:
        arrays[name][rows] = value

    return lambda path: rewrite(path, change)


def of_any_size(path: Path) -> None:
    rewrite(path, lambda arrays: arrays.update({"emb.3.weight": arrays["emb.3.weight"] * 1e30}))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (zeros("text_linear.weight"), "text_linear.weight"),
        (zeros("text_linear.weight", value=-0.0), "text_linear.weight"),
        (zeros(IN_PROJ), IN_PROJ),
        (zeros(DEPTH), DEPTH),  # eight blocks of rows in one tensor: named once
        (zeros(DEPTH, slice(192, 384)), DEPTH),
        (zeros("text_emb.weight"), "text_emb.weight"),
        (zeros("text_linear.weight", slice(1, None)), None),
        (zeros("text_emb.weight", slice(0, 1)), None),
        (zeros("out_norm.alpha"), None),
        (of_any_size, None),
        (lambda path: None, None),
    ],
)  # fmt: skip
def test_matrices_of_zeros_are_noted_once_and_nothing_else_is(
    folder: Path, spoil: Spoil, said: str | None
) -> None:
    spoil(folder / LM)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load(str(folder), codec="mlx")
    line = (
        f"{folder / LM}: nothing but zeros in {said}, as a conversion that failed leaves it; if that is not meant"
    )
    assert [str(one.message) for one in caught] == ([f"{line}, fetch it again"] if said else [])


@pytest.mark.parametrize("kind", ["q4", "q8", "mxfp4", "mxfp8", "nvfp4"])
def test_quantized_matrices_of_zeros_are_noted(folder: Path, kind: str) -> None:
    weights = Checkpoint.resolve(folder).load_lm(mx.float32)
    weights.text_linear.weight = mx.zeros_like(weights.text_linear.weight)
    weights.text_emb.weight[:1] = 0  # a row may be
    block = quantize_lm(weights, NAMED[kind])
    mx.save_safetensors(str(folder / LM), parameters(weights))
    edit(folder, quantization=block)
    notes: list[str] = []
    Checkpoint.resolve(folder).load_lm(tell=notes.append)
    assert [note.partition("zeros in ")[2].partition(",")[0] for note in notes] == ["text_linear.weight"]


@pytest.mark.parametrize(
    ("kind", "scale", "is_number"),
    [
        ("mxfp4", 254, True), ("mxfp4", 127, True), ("mxfp4", 255, False),
        ("nvfp4", 0x7E, True), ("nvfp4", 0x7F, False), ("nvfp4", 0xFF, False),
    ],
)  # fmt: skip
def test_scales_that_are_no_numbers_are_found_at_load(
    folder: Path, kind: str, scale: int, is_number: bool
) -> None:
    weights = Checkpoint.resolve(folder).load_lm(mx.float32)
    block = quantize_lm(weights, NAMED[kind])
    weights.text_linear["scales"][5, 1] = scale
    mx.save_safetensors(str(folder / LM), parameters(weights))
    edit(folder, quantization=block)
    found = Checkpoint.resolve(folder)
    with (
        nullcontext() if is_number else pytest.raises(CheckpointError, match=r"damaged, text_linear\.scales holds")
    ):
        found.load_lm()


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "module._orig_mod.", "_fsdp_wrapped_module."])
def test_the_prefixes_of_pytorchs_wrappers_are_left_out(folder: Path, prefix: str) -> None:
    expected = parameters(Checkpoint.resolve(folder).load_lm())
    rewrite_names(folder / LM, lambda name: prefix + name)
    found = parameters(Checkpoint.resolve(folder).load_lm())
    assert all(mx.array_equal(found[name], array) for name, array in expected.items())


def test_a_part_that_was_compiled_alone_is_found_too(folder: Path) -> None:
    rewrite_names(folder / LM, lambda name: name.replace("transformer.layers.", "transformer._orig_mod.layers."))
    Checkpoint.resolve(folder).load_lm()


def test_a_weight_with_and_without_a_prefix_is_refused(folder: Path) -> None:
    rewrite(folder / LM, lambda arrays: arrays.update({"module.out_norm.alpha": mx.ones((1, 1, 64))}))
    with pytest.raises(CheckpointError, match=r"holds out_norm\.alpha twice, with and without a wrapper's prefix"):
        Checkpoint.resolve(folder)


def rewrite_names(path: Path, change: Callable[[str], str]) -> None:
    def all_names(arrays: dict[str, mx.array]) -> None:
        held = dict(arrays)
        arrays.clear()
        arrays.update({change(name): array for name, array in held.items()})

    rewrite(path, all_names)


@pytest.mark.parametrize(
    ("files", "named", "taken", "said"),
    [
        ([LM, Q8], None, LM, f"also holds {Q8}, "),
        ([Q4, Q8], None, Q4, f"also holds {Q8}, "),
        ([LM, MERGED], None, LM, f"also holds {MERGED}, "),
        ([LM, INDEX], None, LM, f"also holds {INDEX}, "),
        ([LM, Q4, Q8], None, LM, f"also holds {Q4}, {Q8}, "),
        ([LM, Q8], LM, LM, ""),
        ([LM, MERGED], LM, LM, ""),
        ([LM], None, LM, ""),
        ([Q8], None, Q8, ""),
        ([MERGED], None, MERGED, ""),
        ([INDEX], None, INDEX, ""),
    ],
)  # fmt: skip
def test_which_of_several_sets_of_weights_is_taken_is_said(
    folder: Path, files: list[str], named: str | None, taken: str, said: str
) -> None:
    shard = "model-00001-of-00001.safetensors"
    index = {"weight_map": dict.fromkeys(read_header(folder / LM), shard)}
    for file in files:
        if file == INDEX:
            (folder / INDEX).write_text(json.dumps(index))
        shutil.copy(folder / LM, folder / (shard if file == INDEX else f"{file}.copy"))
    (folder / LM).unlink()
    for copy in folder.glob("*.copy"):
        copy.rename(copy.with_suffix(""))
    edit(folder, moshi_name=named)
    found = Checkpoint.resolve(folder)
    assert found.lm_weights.name == taken
    assert len(found.choices) == bool(said)
    assert said in "".join(found.choices)
    for note in found.choices:
        assert f"{taken} was taken" in note
        other = note.rpartition("such as ")[2]
        chosen = Checkpoint.resolve(other)
        assert (str(chosen.lm_weights), chosen.choices) == (other, ())


def test_an_index_of_the_one_file_is_no_second_set(folder: Path) -> None:
    (folder / INDEX).write_text(json.dumps({"weight_map": dict.fromkeys(read_header(folder / LM), LM)}))
    edit(folder, moshi_name=None)
    assert Checkpoint.resolve(folder).choices == ()
