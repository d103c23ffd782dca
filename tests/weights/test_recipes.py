"""Recipes: by name, from a file, and refused."""

import json
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import pytest

from moshi_mlx.checkpoint.random_checkpoint import TINY
from moshi_mlx.errors import QuantizationError
from moshi_mlx.models.config import MOSHI_7B, LmConfig
from moshi_mlx.models.lm import Lm
from moshi_mlx.quantize.quantizer import quantizable, quantize_lm
from moshi_mlx.weights.quantization import RECIPES, Recipe, Scheme, make_scheme, parse_recipe, schemes_from_shapes
from tests.quantize.tensors import tensors_of

Q4, Q8 = Scheme(4, 32), Scheme(8, 64)


@pytest.fixture
def lm() -> Lm:
    return Lm(LmConfig.from_dict(TINY))


@pytest.mark.parametrize(
    ("name", "scheme"),
    [
        ("bf16", None),
        ("q8", Q8),
        ("q6", Scheme(6, 64)),
        ("q5", Scheme(5, 64)),
        ("q4", Q4),
        ("Q4", Q4),
        ("q4-g64", Scheme(4, 64)),
        ("mxfp4", Scheme(4, 32, "mxfp4")),
        ("mxfp8", Scheme(8, 32, "mxfp8")),
        ("nvfp4", Scheme(4, 16, "nvfp4")),
    ],
)
def test_a_uniform_recipe_is_one_scheme_for_all(name: str, scheme: Scheme | None, lm: Lm) -> None:
    recipe = parse_recipe(name)
    paths = [path for path, layer in lm.named_modules() if hasattr(layer, "to_quantized")]
    assert {recipe.how(path) for path in paths} == {scheme}
    assert parse_recipe(recipe) is recipe


@pytest.mark.parametrize("name", sorted(RECIPES.keys() - {"bf16"}))
def test_a_recipe_is_what_quantizing_makes(name: str, lm: Lm) -> None:
    recipe = RECIPES[name]
    assert recipe.scheme
    quantize_lm(lm, recipe.scheme, recipe.predicate)
    widths = {"text_emb": 64, "depformer.slices.7.linear_in": 64, "transformer.layers.1.gating.linear_out": 192}
    schemes = schemes_from_shapes(tensors_of(lm), widths)
    assert schemes == {path: recipe.how(path) for path in widths}


def test_mixed_spends_a_tenth_more_than_q4_on_what_is_next_to_the_tokens() -> None:
    lm = Lm(LmConfig.from_dict(MOSHI_7B))  # lazy: shapes alone
    size = dict.fromkeys(("q4", "mixed"), 0.0)
    for path, layer in lm.named_modules():
        if isinstance(weight := layer.get("weight"), mx.array) and hasattr(layer, "to_quantized"):
            for name in size:
                how = RECIPES[name].how(path)
                assert how
                size[name] += weight.size * how.bits_per_weight / 8
            near_tokens = not path.startswith("transformer.")
            assert RECIPES["mixed"].how(path) == (Q8 if near_tokens else Q4)
    assert size["q4"] == pytest.approx(4.805e9, rel=1e-3)  # what Kyutai's file has
    assert size["mixed"] / size["q4"] == pytest.approx(1.10, abs=0.005)


def test_bits_per_weight_are_those_of_the_arrays() -> None:
    for name, recipe in RECIPES.items():
        if recipe.scheme and name != "mixed":
            how = recipe.scheme
            arrays = mx.quantize(mx.zeros((4, 384), mx.bfloat16), how.group_size, how.bits, mode=how.mode)
            assert sum(array.nbytes for array in arrays) * 8 / (4 * 384) == how.bits_per_weight


def test_a_file_names_layers_by_path_and_by_pattern(tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    layers = {
        "text_linear": False,
        "transformer.layers.1.*": {"bits": 8},
        "transformer.*": {"bits": 3, "group_size": 128},
        "transformer.layers.1.self_attn.in_proj": True,
        "depformer.*": {"mode": "mxfp8"},
    }
    file.write_text(json.dumps({"bits": 4, "group_size": 32, "layers": layers}))
    recipe = parse_recipe(file)
    assert recipe.name == "mine"
    assert recipe.how("text_linear") is None
    assert recipe.how("text_emb") == Q4
    assert recipe.how("transformer.layers.1.self_attn.out_proj") == Scheme(8, 32)  # the group is the recipe's
    assert recipe.how("transformer.layers.1.self_attn.in_proj") == Q4  # its own path goes before patterns
    assert recipe.how("transformer.layers.11.self_attn.out_proj") == Scheme(3, 128)
    assert recipe.how("depformer.slices.0.linear_in") == Scheme(8, 32, "mxfp8")


def test_a_recipe_file_reads_back_as_it_was_written(tmp_path: Path) -> None:
    for name, recipe in RECIPES.items():
        if recipe.scheme:
            file = tmp_path / f"{name}.json"
            file.write_text(json.dumps(recipe.as_json()))
            assert parse_recipe(str(file)) == recipe


def test_without_a_scheme_of_its_own_a_recipe_quantizes_only_the_layers_it_names() -> None:
    recipe = Recipe("one", None, {"text_emb": {"bits": 8}})
    assert recipe.how("text_emb") == Q8
    assert recipe.predicate("text_linear", nn.Linear(4, 4)) is False


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"is not JSON"),
        ("[]", r"is not a JSON object"),
        ('{"bit": 4}', r"is not a recipe: bits, group_size, mode and layers expected"),
        ('{"layers": [1]}', r"is not a recipe"),
        ("{}", r"quantizes nothing; say bf16"),
        ('{"bits": 7}', r"mine\.json: MLX has no 7 bits in groups of 64: 2, 3, 4, 5, 6 or 8 bits in groups of"),
        ('{"bits": "4"}', r"MLX has no '4' bits"),
        ('{"bits": true}', r"MLX has no True bits"),
        ('{"bits": 4, "group_size": 48}', r"in groups of 48"),
        ('{"mode": "fp4"}', r"mode 'fp4' is unknown: one of affine, mxfp4, mxfp8, nvfp4 expected"),
        ('{"mode": "nvfp4", "group_size": 32}', r"nvfp4 is always 4 bits in groups of 16: leave both out"),
        ('{"bits": 4, "layers": {"a": "q8"}}', r"recipe mine says 'q8' of a: true, false, or any of"),
        ('{"bits": 4, "layers": {"a": {"group": 8}}}', r"recipe mine says .*'group'.* of a"),
        ('{"bits": 4, "layers": {"a": {"bits": 1}}}', r"recipe mine, layer a: MLX has no 1 bits"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused_in_one_line(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "mine.json"
    file.write_text(content)
    with pytest.raises(QuantizationError, match=message) as caught:
        parse_recipe(file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("transfomer.*", r"mine names transfomer\.\*, which .* to transfomer\.\*: transformer\.\*, "),
        ("transformer.layer.*", r"nearest to transformer\.layer\.\*: transformer\.layers\.\*"),
        ("depformer", r"nearest to depformer: depformer\.\*"),
        ("*.linear_input", r"nearest to \*\.linear_input: \*\.linear_in, "),
        ("depformer.slices.*.linear_on", r"nearest to .*: depformer\.slices\.\*\.linear_in, "),
        ("text_embedding", r"nearest to text_embedding: text_emb"),
        ("transformer.layers.9.gating.linear_in", r": transformer\.layers\.[01]\.gating\.linear_in, "),
        ("transformer.layers.[89].*", r"names transformer\.layers\.\[89\]\.\*, which"),
        ("*norm*", r"names \*norm\*, which this model does not have"),
        ("mlp?*@", r"names mlp\?\*@, which this model does not have; the nearest to mlp\?\*@: none$"),
    ],
)  # fmt: skip
def test_a_name_or_a_pattern_that_fits_no_layer_is_refused_with_the_nearest(
    lm: Lm, names: str, message: str
) -> None:
    recipe = Recipe("mine", Q4, {"text_linear": False, names: {"bits": 8}})
    with pytest.raises(QuantizationError, match=message):
        recipe.check(quantizable(lm))


@pytest.mark.parametrize(
    "names",
    ["text_linear", "*", "transformer.*", "*.linear_in", "transformer.layers.[01].*", "depformer.slices.?.emb*"],
)
def test_a_name_or_a_pattern_that_fits_a_layer_is_taken(lm: Lm, names: str) -> None:
    Recipe("mine", Q4, {names: False}).check(quantizable(lm))


def test_the_named_recipes_are_for_all_members_of_the_family() -> None:
    without_depth = Lm(LmConfig.from_dict({**TINY, "dep_q": 0}))
    for recipe in RECIPES.values():
        replace(recipe, name="another name").check(quantizable(without_depth))


def test_unknown_names_and_missing_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(QuantizationError, match=r"'q7' is unknown; one of bf16, q4, .*mixed or a \.json file"):
        parse_recipe("q7")
    with pytest.raises(QuantizationError, match=r"cannot read the recipe .*no\.json: No such file"):
        parse_recipe(tmp_path / "no.json")


def test_what_is_left_out_of_a_scheme_is_as_in_the_named_ones() -> None:
    assert make_scheme() == make_scheme(4) == Q4
    assert make_scheme(8) == make_scheme(8, 64, "affine") == Q8
    assert make_scheme(3) == Scheme(3, 64)
    assert make_scheme(mode="nvfp4") == Scheme(4, 16, "nvfp4")
