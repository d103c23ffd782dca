"""Layer by layer from file to file, against quantizing the loaded model."""

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.checkpoint.random_checkpoint import TINY, write_random_checkpoint
from moshi_mlx.errors import CheckpointError, QuantizationError
from moshi_mlx.models.config import LmConfig
from moshi_mlx.models.layers import parameters
from moshi_mlx.models.lm import Lm
from moshi_mlx.quantize import quantizer
from moshi_mlx.quantize.card import Made
from moshi_mlx.quantize.quantizer import DenseReader, conversion, converted, quantize_lm
from moshi_mlx.weights.lm_weights import LmWeights
from moshi_mlx.weights.quantization import RECIPES, Recipe, Scheme, parse_recipe
from moshi_mlx.weights.safetensors import read_header, read_rows
from tests.golden import ASSETS
from tests.memory import active_memory
from tests.quantize.conftest import SMALL
from tests.random_weights import random_tensor

Make = Callable[..., Made]
UNIFORM = [
    Recipe(f"{bits}-{group}", Scheme(bits, group)) for bits in (2, 3, 4, 5, 6, 8) for group in (32, 64, 128)
]


def load(folder: Path) -> Lm:
    return Checkpoint.resolve(folder).load_lm(mx.float32)


def answers(lm: Lm) -> dict[str, np.ndarray]:
    """Teacher-forced logits, one of the tokens in every stream -1."""
    config = lm.config
    tokens = mx.array(np.random.default_rng(0).integers(0, config.card, (1, 1 + config.n_q, 5)))
    tokens = mx.where(mx.arange(5) == 2, -1, tokens)
    hidden = lm.temporal(tokens, lm.new_state())
    audio = lm.depformer.logits(hidden, tokens[:, : config.dep_q + 1])
    return {"text": np.array(lm.text_linear(hidden)), "audio": np.array(audio)}


def stored(folder: Path) -> dict[str, np.ndarray]:
    return {name: read_rows(tensor) for name, tensor in read_header(folder / "model.safetensors").items()}


@pytest.mark.parametrize("recipe", [*RECIPES.values(), *UNIFORM], ids=str)
def test_what_is_saved_loads_and_answers_as_the_model_quantized_in_memory(
    make: Make, small: Path, recipe: Recipe
) -> None:
    made = make(recipe)
    expected = load(small)
    if recipe.scheme:
        quantize_lm(expected, recipe.scheme, recipe.predicate)
    loaded = load(made.folder)
    ours, theirs = parameters(loaded), parameters(expected)
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert ours[name].dtype == theirs[name].dtype, name
        assert mx.array_equal(ours[name], theirs[name]), name
    for logits, wanted in zip(answers(loaded).values(), answers(expected).values(), strict=True):
        np.testing.assert_array_equal(logits, wanted)


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_minus_one_embeds_to_exactly_zero(make: Make, recipe: str) -> None:
    lm = load(make(recipe).folder)
    for table in (lm.text_emb, *lm.audio_embs, *(one.emb for one in lm.depformer.slices)):
        rows = np.array(table(mx.array([[-1, 5]]), mx.float32))
        assert np.abs(rows[0, 0]).max() == 0
        assert np.abs(rows[0, 1]).max() > 0


@pytest.mark.parametrize("kind", ["q4", "q8"])
def test_q4_and_q8_are_kyutais_files_bit_by_bit_and_answer_as_in_kyutais_program(
    make: Make, tmp_path: Path, small: Path, kind: str
) -> None:
    """Against files that Kyutai's own program wrote (make_peer_file_golden.py)."""
    import hashlib

    with np.load(ASSETS / f"peer_file_{kind}.npz") as file:
        golden = dict(file)
    settings = json.loads(str(golden["config"]))
    source = write_random_checkpoint(tmp_path / "source", settings | {"text_card": 48 + 208}, layout="mlx")
    config = LmConfig.from_dict(settings)
    dense = {name: mx.array(random_tensor(name, one.shape)) for name, one in parameters(Lm(config)).items()}
    bfloat16 = {name: one.astype(mx.bfloat16) for name, one in dense.items()}
    mx.save_safetensors(str(source / "model.safetensors"), bfloat16)

    weights = LmWeights(source / "model.safetensors", config)
    wanted = conversion(config, parse_recipe(kind))
    made = dict(zip(wanted.layout, converted(wanted, DenseReader(weights)), strict=True))
    types = {"U32": "mlx.core.uint32", "BF16": "mlx.core.bfloat16"}
    theirs = json.loads(str(golden["tensors"]))
    assert {name: types[one.dtype] for name, one in wanted.layout.items()} == {
        name: dtype for name, (dtype, _, _) in theirs.items()
    }
    if mx.default_device() == mx.cpu:  # another device may round a scale differently
        for name, (_, shape, digest) in theirs.items():
            assert list(made[name].shape) == shape, name
            assert hashlib.sha256(made[name].tobytes()).hexdigest()[:16] == digest, name

    (tmp_path / "theirs").mkdir()
    path = tmp_path / "theirs" / "model.safetensors"
    mx.save_safetensors(
        str(path),
        {
            name: mx.array(one).view(mx.bfloat16).astype(mx.float32) if one.dtype == np.uint16 else mx.array(one)
            for name, one in made.items()
        },
    )
    lm = LmWeights(path, config, wanted.block).load(mx.float32)
    tokens = mx.array(golden["tokens"])
    hidden = lm.temporal(tokens, lm.new_state())
    audio = lm.depformer.logits(hidden, tokens[:, : config.dep_q + 1])
    for ours, name in ((lm.text_linear(hidden)[0], "text_logits"), (audio[0], "audio_logits")):
        error = np.abs(np.array(ours) - golden[name]).max() / np.abs(golden[name]).max()
        assert error < 1e-5, f"{name}: {error:.1e} of the largest"


def test_both_layouts_of_a_model_give_the_same_file(make: Make, small: Path, tmp_path: Path) -> None:
    mlx = write_random_checkpoint(tmp_path / "mlx", SMALL, layout="mlx", dtype="bfloat16")
    one, other = make("mixed"), make("mixed", mlx, "other")
    assert (one.folder / "model.safetensors").read_bytes() == (other.folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize("dtype", [mx.float32, mx.float16])
def test_wider_and_other_types_become_the_nearest_bfloat16(make: Make, tmp_path: Path, dtype: mx.Dtype) -> None:
    source = write_random_checkpoint(tmp_path / "source", SMALL, layout="mlx")
    file = source / "model.safetensors"
    loaded = mx.load(str(file))
    assert isinstance(loaded, dict)
    dense = {name: array.astype(dtype) for name, array in loaded.items()}
    mx.eval(dense)
    mx.save_safetensors(str(file), dense)
    made = stored(make("bf16", source).folder)
    for name, array in dense.items():
        np.testing.assert_array_equal(made[name], np.array(array.astype(mx.bfloat16).view(mx.uint16)), name)


def test_rows_are_made_by_themselves_however_many_at_once(
    make: Make, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = stored(make("mixed").folder)
    monkeypatch.setattr(quantizer, "BLOCK", 7 * 128 + 1)
    pieces = stored(make("mixed", name="pieces").folder)
    for name in whole:
        np.testing.assert_array_equal(whole[name], pieces[name], name)


def test_no_more_than_a_layer_is_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantizer, "BLOCK", 1 << 12)
    source = write_random_checkpoint(tmp_path / "deep", {**SMALL, "num_layers": 12}, dtype="bfloat16")
    weights = Checkpoint.resolve(source).weights
    wanted = conversion(weights.config, parse_recipe("q8"))
    largest = max(tensor.nbytes for tensor in wanted.layout.values())
    dense = DenseReader(weights)
    before = active_memory()
    mx.reset_peak_memory()
    tracemalloc.start()
    try:
        for array in converted(wanted, dense):
            del array
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert largest < wanted.nbytes / 20, "else this test says nothing"
    assert peak < 2 * largest
    assert mx.get_peak_memory() - before < 2 * largest


def test_dequantizing_gives_the_numbers_that_the_levels_stand_for(make: Make, small: Path) -> None:
    for recipe in ("q8", "mxfp8"):
        quantized = make(recipe, name=recipe)
        dense = make("bf16", quantized.folder, f"{recipe}-dense")
        assert Checkpoint.resolve(dense.folder).scheme is None
        assert "quantization" not in json.loads((dense.folder / "config.json").read_text())
        for (name, logits), wanted in zip(
            answers(load(dense.folder)).items(), answers(load(quantized.folder)).values(), strict=True
        ):
            assert np.abs(logits - wanted).max() < 0.05 * wanted.std(), name
        layer = parameters(load(quantized.folder))
        parts = [
            layer[f"text_linear.{leaf}"]
            for leaf in ("weight", "scales", "biases")
            if f"text_linear.{leaf}" in layer
        ]
        scheme = RECIPES[recipe].scheme
        assert scheme
        parts[1:] = [one.astype(mx.float32) if one.dtype == mx.bfloat16 else one for one in parts[1:]]
        numbers = mx.dequantize(*parts, group_size=scheme.group_size, bits=scheme.bits, mode=scheme.mode)
        expected = np.array(numbers.astype(mx.bfloat16).view(mx.uint16))
        np.testing.assert_array_equal(stored(dense.folder)["text_linear.weight"], expected)


def test_quantizing_again_copies_the_layers_that_stay_as_they_are(make: Make) -> None:
    first = make("q4")
    again = make("mixed", first.folder, "again", requantize=True)
    one, two = stored(first.folder), stored(again.folder)
    for leaf in ("weight", "scales", "biases"):
        name = f"transformer.layers.0.gating.linear_in.{leaf}"
        np.testing.assert_array_equal(one[name], two[name])
    assert one["text_linear.weight"].shape != two["text_linear.weight"].shape


def test_steps_that_share_weights_still_share_them_when_loaded(make: Make, tmp_path: Path) -> None:
    config = {**TINY, "num_layers": 1, "depformer_weights_per_step_schedule": [0, 1, 2, 2, 2, 2, 2, 2]}
    source = write_random_checkpoint(tmp_path / "scheduled", config, dtype="bfloat16")
    file = tmp_path / "apart.json"
    file.write_text(json.dumps({"bits": 4, "layers": {"depformer.slices.4.linear_in": {"bits": 8}}}))
    expected = load(source)
    recipe = parse_recipe(file)
    assert recipe.scheme
    quantize_lm(expected, recipe.scheme, recipe.predicate)
    loaded = load(make(recipe, source).folder)
    for lm in (expected, loaded):
        weights = [id(one.linear_in.weight) for one in lm.depformer.slices]
        assert len({weights[step] for step in (2, 3, 5, 6, 7)}) == 1
        assert len(set(weights)) == 4, "the step that is quantized otherwise has its own"
    for logits, wanted in zip(answers(loaded).values(), answers(expected).values(), strict=True):
        np.testing.assert_array_equal(logits, wanted)


def test_a_conditioner_too_narrow_for_a_group_stays_dense_and_is_listed(make: Make, tmp_path: Path) -> None:
    lut = {"n_bins": 3, "dim": 16, "tokenizer": "noop", "possible_values": ["bad", "good"]}
    config = {
        **SMALL,
        "conditioners": {"description": {"type": "lut", "lut": lut}},
        "fuser": {"sum": ["description"], "cross": [], "prepend": []},
        "depformer_low_rank_embeddings": 32,
    }
    source = write_random_checkpoint(tmp_path / "conditioned", config, dtype="bfloat16")
    made = make("q4", source)
    place = "condition_provider.conditioners.description"
    assert made.undivided == (f"{place}.embed", f"{place}.output_proj")
    block = json.loads((made.folder / "config.json").read_text())["quantization"]
    assert block == {**Scheme(4, 32).block(), f"{place}.embed": False, f"{place}.output_proj": False}
    assert {f"{place}.embed.weight", f"{place}.learnt_padding", "out_norm.weight"} < set(made.dense)
    assert "depformer.slices.1.emb.weight" in made.dense  # of a low-rank table only the layer behind it
    lm, expected = load(made.folder), load(source)
    for value in ("good", None):
        ours, theirs = (one.condition({"description": value}) for one in (lm, expected))
        assert ours is not None
        assert theirs is not None
        assert mx.array_equal(ours, theirs)


def test_a_group_that_divides_nothing_is_refused() -> None:
    config = LmConfig.from_dict({**SMALL, "dim": 96, "depformer_dim": 96, "hidden_scale": 3.0, "num_heads": 4,
                                 "depformer_dim_feedforward": 288})  # fmt: skip
    with pytest.raises(QuantizationError, match=r"groups of 128 do not divide any layer .* all 96, 192 wide"):
        conversion(config, Recipe("wide", Scheme(4, 128)))


def test_a_recipe_that_names_no_layer_of_the_model_is_refused() -> None:
    config = LmConfig.from_dict(SMALL)
    recipe = Recipe("mine", Scheme(4, 32), {"transfomer.*": False})
    with pytest.raises(QuantizationError, match=r"recipe mine names transfomer\.\*, which .* transformer\.\*"):
        conversion(config, recipe)


def test_a_recipe_that_leaves_all_dense_makes_a_dense_model() -> None:
    wanted = conversion(LmConfig.from_dict(SMALL), Recipe("none", Scheme(4, 32), {"*": False}))
    assert (wanted.block, wanted.schemes, wanted.undivided) == (None, {}, ())


@pytest.mark.parametrize("bits", [0x7F80, 0xFF80, 0x7FC0])  # infinity, minus infinity, NaN
def test_weights_that_are_no_numbers_are_refused(make: Make, tmp_path: Path, bits: int) -> None:
    source = write_random_checkpoint(tmp_path / "damaged", SMALL, dtype="bfloat16")
    file = source / "model.safetensors"
    tensor = read_header(file)["depformer.layers.0.self_attn.out_proj.weight"]
    with file.open("r+b") as writer:
        writer.seek(tensor.end - 2)
        writer.write(bits.to_bytes(2, "little"))
    with pytest.raises(
        CheckpointError, match=r"model\.safetensors: depformer\.\S+out_proj\.weight holds infinities"
    ):
        make("q4", source)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["damaged"]
