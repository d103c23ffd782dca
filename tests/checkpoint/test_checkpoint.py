"""Loading: both layouts, dense and quantized; memory; what is shared; what activations are."""

import json
import shutil
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.checkpoint.random_checkpoint import TINY, write_random_checkpoint
from moshi_mlx.errors import QuantizationError
from moshi_mlx.models.config import LmConfig
from moshi_mlx.models.layers import parameter_bytes, parameters
from moshi_mlx.models.lm import Lm, widen_on_cpu
from moshi_mlx.quantize.quantizer import quantize_lm
from moshi_mlx.weights.lm_weights import LmWeights
from moshi_mlx.weights.quantization import SCHEMES, Scheme
from tests.golden import ASSETS, LM_GOLDENS
from tests.memory import active_memory


def golden_config(name: str) -> dict:
    """A config that the goldens cover: Moshi-like; schedule, low rank, conditioner; kv_repeat, depth norms."""
    with np.load(ASSETS / f"lm_{name}.npz") as golden:
        return json.loads(str(golden["config"]))


@pytest.fixture(scope="module", params=LM_GOLDENS)
def folders(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same random model in both layouts."""
    base, config = tmp_path_factory.mktemp(request.param), golden_config(request.param)
    return {
        layout: write_lm(base / layout, config, layout=layout, dtype="bfloat16") for layout in ("torch", "mlx")
    }


def write_lm(folder: Path, config: dict, **how: object) -> Path:
    """A random checkpoint whose codec and tokenizer do not matter."""
    return write_random_checkpoint(folder, config | {"text_card": 256}, **how)  # type: ignore[arg-type]


def weights_of(folder: Path, file: str = "model.safetensors") -> LmWeights:
    settings = json.loads((folder / "config.json").read_text())
    return LmWeights(folder / file, LmConfig.from_dict(settings), settings.get("quantization"))


def logits_of(lm: Lm) -> list[np.ndarray]:
    """Text and audio logits of a few random positions, -1 among them, in float32."""
    config = lm.config
    tokens = np.random.default_rng(0).integers(-1, config.card, (1, 1 + config.n_q, 6))
    lm.activation_dtype = mx.float32
    hidden = lm.temporal(mx.array(tokens), lm.new_state(), lm.condition())
    depth = lm.depformer.logits(hidden, mx.array(tokens[:, : 1 + config.dep_q]))
    return [np.array(lm.text_linear(hidden)), np.array(depth)]


def save(lm: Lm, path: Path) -> None:
    mx.save_safetensors(str(path), parameters(lm), {"format": "mlx"})


def read(path: Path) -> dict[str, mx.array]:
    """A file as MLX itself reads it."""
    return dict(mx.load(str(path)))  # type: ignore[arg-type]


def assert_same_arrays(one: Lm, other: Lm) -> None:
    first, second = parameters(one), parameters(other)
    assert first.keys() == second.keys()
    for name, array in first.items():
        assert array.dtype == second[name].dtype, name
        assert mx.array_equal(array, second[name]), name


def test_torch_layout_to_mlx_layout_to_file_and_back_is_the_identity(folders, tmp_path: Path) -> None:
    from_torch = weights_of(folders["torch"]).load()
    save(from_torch, tmp_path / "model.safetensors")
    again = LmWeights(tmp_path / "model.safetensors", from_torch.config)
    assert again.layout == "mlx"
    assert_same_arrays(from_torch, again.load())
    assert again.tensors.keys() == weights_of(folders["mlx"]).tensors.keys()


def test_weights_are_loaded_as_they_are_stored(folders) -> None:
    stored = read(folders["mlx"] / "model.safetensors")
    lm = weights_of(folders["mlx"]).load(mx.float32)
    assert {array.dtype for array in parameters(lm).values()} == {mx.bfloat16}
    assert all(mx.array_equal(array, stored[name]) for name, array in parameters(lm).items())


@pytest.mark.parametrize("layout", ["torch", "mlx"])
def test_steps_of_one_weight_index_share_their_arrays(tmp_path: Path, layout: str) -> None:
    config = golden_config("scheduled")
    schedule = config["depformer_weights_per_step_schedule"]
    assert schedule == [0, 1, 2, 3, 3, 3]
    folder = write_lm(tmp_path / "model", config, layout=layout)
    before = active_memory()
    lm = weights_of(folder).load()
    slices = lm.depformer.slices
    for get in (
        lambda step: step.linear_in.weight,
        lambda step: step.transformer.layers[1].self_attn.in_proj.weight,
        lambda step: step.transformer.layers[0].self_attn.out_proj.weight,
        lambda step: step.transformer.layers[0].gating.linear_out.weight,
    ):
        ids = [id(get(step)) for step in slices]
        assert [ids.index(id_) for id_ in ids] == schedule
    assert len({id(step.transformer.layers[1].norm2.weight) for step in slices}) == 1
    assert len({id(step.linear_out.weight) for step in slices}) == len(slices)
    stored = sum(tensor.end - tensor.begin for tensor in weights_of(folder).tensors.values())
    assert mx.get_active_memory() - before == pytest.approx(parameter_bytes(lm), rel=0.05)
    assert parameter_bytes(lm) <= stored
    assert (parameter_bytes(lm) < 0.9 * stored) == (layout == "mlx"), "PyTorch's files hold no copies"


def test_copies_that_were_trained_apart_stay_apart(tmp_path: Path) -> None:
    folder = write_lm(tmp_path / "model", golden_config("scheduled"), layout="mlx")
    path = folder / "model.safetensors"
    stored = read(path)
    own = "depformer.slices.5.linear_in.weight"
    norm = "depformer.slices.2.transformer.layers.0.norm1.weight"
    stored[own], stored[norm] = stored[own] + 1, stored[norm] + 1
    mx.save_safetensors(str(path), stored)
    lm = weights_of(folder).load()
    assert mx.array_equal(parameters(lm)[own], stored[own])
    assert mx.array_equal(parameters(lm)[norm], stored[norm])
    assert lm.depformer.slices[3].linear_in.weight is lm.depformer.slices[4].linear_in.weight


@pytest.mark.parametrize("name", LM_GOLDENS)
@pytest.mark.parametrize("scheme", [Scheme(4, 32), Scheme(8, 32), Scheme(4, 32, "mxfp4")], ids=str)
def test_loading_quantized_equals_quantizing_what_was_loaded(tmp_path: Path, name: str, scheme: Scheme) -> None:
    folder = write_lm(tmp_path / "model", golden_config(name), layout="torch")
    quantized = weights_of(folder).load()
    block = quantize_lm(quantized, scheme)
    save(quantized, tmp_path / "quantized.safetensors")
    for given in (block, None):  # what the config says is a check; the shapes are enough
        weights = LmWeights(tmp_path / "quantized.safetensors", quantized.config, given)
        assert weights.scheme == scheme
        loaded = weights.load(mx.float32)
        assert_same_arrays(quantized, loaded)
        for ours, reference in zip(logits_of(loaded), logits_of(quantized), strict=True):
            assert np.array_equal(ours, reference)
    assert parameter_bytes(loaded) == parameter_bytes(quantized)


def test_layers_may_differ_in_how_they_are_quantized(tmp_path: Path) -> None:
    lm = weights_of(write_lm(tmp_path / "model", TINY)).load()
    block = quantize_lm(
        lm, SCHEMES["q4"], lambda path, _: path != "text_linear" and ({"bits": 8} if "depformer" in path else True)
    )
    save(lm, tmp_path / "mixed.safetensors")
    weights = LmWeights(tmp_path / "mixed.safetensors", lm.config, block)
    assert weights.schemes["depformer.slices.0.linear_in"] == Scheme(8, 32)
    assert weights.schemes["text_emb"] == SCHEMES["q4"]
    assert "text_linear" not in weights.schemes
    assert_same_arrays(lm, weights.load())


@pytest.mark.parametrize("scheme", ["q4", "q8"])
def test_minus_one_embeds_to_zero_from_kyutais_quantized_files(tmp_path: Path, scheme: str) -> None:
    lm = weights_of(write_lm(tmp_path / "model", TINY, layout="mlx", scheme=scheme)).load()
    for table in (lm.text_emb, lm.audio_embs[3], lm.depformer.slices[0].emb, lm.depformer.slices[4].emb):
        rows = np.array(table(mx.array([-1, 7]), mx.float32))
        assert np.abs(rows[0]).max() == 0
        assert np.abs(rows[1]).max() > 0


@pytest.mark.slow
@pytest.mark.parametrize(("layout", "scheme"), [("torch", None), ("mlx", None), ("mlx", "q4"), ("mlx", "q8")])
def test_loading_needs_no_more_memory_than_the_weights(tmp_path: Path, layout: str, scheme: str | None) -> None:
    wide = {
        "dim": 2048 if scheme else 1024,
        "num_layers": 6 if scheme else 4,
        "num_heads": 16,
        "text_card": 2000,
    }
    folder = write_random_checkpoint(tmp_path / "model", TINY | wide, layout=layout, scheme=scheme)
    weights = weights_of(folder)
    before = active_memory()
    mx.reset_peak_memory()
    lm = weights.load()
    lm.fuse()  # lays some weights out anew, as every conversation does
    size = parameter_bytes(lm)
    assert size > 100e6
    assert mx.get_peak_memory() - before <= 1.03 * size
    assert mx.get_active_memory() - before <= 1.005 * size
    shutil.rmtree(folder)


def test_everything_is_evaluated_by_load(tmp_path: Path) -> None:
    """Lazy arrays cannot cross threads, and a file that is gone cannot be read."""
    folder = write_lm(tmp_path / "model", TINY)
    lm = weights_of(folder).load()
    shutil.rmtree(folder)
    assert np.isfinite(logits_of(lm)[0]).all()


@pytest.mark.parametrize(
    ("how", "on_cpu", "on_gpu"),
    [
        ({"layout": "mlx", "scheme": "q4"}, mx.float32, mx.bfloat16),
        ({"dtype": "bfloat16"}, mx.bfloat16, mx.bfloat16),
        ({"dtype": "float32"}, mx.float32, mx.float32),
    ],
    ids=["q4", "bf16", "f32"],
)
def test_activations_are_what_the_device_and_the_weights_need(tmp_path: Path, how, on_cpu, on_gpu) -> None:
    weights = weights_of(write_lm(tmp_path / "model", TINY, **how))
    expected = on_gpu if mx.default_device() == mx.gpu else on_cpu
    assert weights.default_dtype == expected
    assert weights.load().activation_dtype == expected


@pytest.mark.parametrize(("scheme", "dtype"), [("q4", None), (None, "bfloat16")])
def test_activations_can_be_asked_for(tmp_path: Path, scheme: str | None, dtype: str | None) -> None:
    lm = weights_of(write_lm(tmp_path / "model", TINY, layout="mlx", scheme=scheme, dtype=dtype)).load(mx.bfloat16)
    assert lm.temporal(mx.zeros((1, 17, 1), mx.int32), lm.new_state()).dtype == mx.bfloat16


@pytest.mark.parametrize("layout", ["torch", "mlx"])
def test_loading_counts_the_bytes_it_reads(tmp_path: Path, layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moshi_mlx.weights.lm_weights.PIECE", 1 << 16)
    weights, told = weights_of(write_lm(tmp_path / "model", TINY, layout=layout)), []
    lm = weights.load(advance=told.append)
    assert sum(told) == weights.nbytes == parameter_bytes(lm)
    assert len(told) > 2


def test_the_config_decides_what_the_shapes_must_be(tmp_path: Path) -> None:
    folder = write_random_checkpoint(tmp_path / "model", layout="mlx", scheme="q4")
    settings = json.loads((folder / "config.json").read_text())
    for block in (
        {"bits": 8, "group_size": 64},
        {"bits": 4, "group_size": 64},
        SCHEMES["q4"].block() | {"text_emb": False},
    ):
        (folder / "config.json").write_text(json.dumps(settings | {"quantization": block}))
        with pytest.raises(QuantizationError, match=r"config says .* its shapes are q4"):
            Checkpoint.resolve(str(folder))
    del settings["quantization"]
    (folder / "config.json").write_text(json.dumps(settings))
    assert Checkpoint.resolve(str(folder)).scheme == SCHEMES["q4"]


@pytest.mark.skipif(mx.default_device() == mx.gpu, reason="on a GPU nothing is widened")
@pytest.mark.parametrize(("scheme", "dtype"), [("q4", None), (None, "bfloat16")])
def test_a_small_model_is_held_in_float32_on_a_cpu_and_says_the_same(
    tmp_path: Path, scheme: str | None, dtype: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = golden_config("scheduled") if dtype else TINY  # there steps share weights; this can be quantized
    lm = weights_of(write_lm(tmp_path / "model", config, layout="mlx", scheme=scheme, dtype=dtype)).load()
    before, stored = logits_of(lm), parameter_bytes(lm)
    monkeypatch.setattr("moshi_mlx.models.lm.WIDEN_BELOW", stored - 1)
    widen_on_cpu(lm)
    assert parameter_bytes(lm) == stored, "too large to be widened"
    monkeypatch.setattr("moshi_mlx.models.lm.WIDEN_BELOW", stored)
    widen_on_cpu(lm)
    types = {array.dtype for array in parameters(lm).values()}
    assert types == ({mx.uint32, mx.float32} if scheme else {mx.float32})
    assert stored < parameter_bytes(lm) <= 2 * stored, "what steps share is still held once"
    assert lm.activation_dtype == mx.float32
    for wanted, found in zip(before, logits_of(lm), strict=True):
        # What was half as wide was rounded on its way: rows of tables, and scales.
        assert np.abs(found - wanted).mean() < 0.01 * np.abs(wanted).mean()


def test_a_checkpoint_is_shown_by_its_name_and_file(tiny_folder: Path) -> None:
    found = Checkpoint.find(str(tiny_folder))
    assert repr(found) == f"<Checkpoint {found.name}: {found.lm_weights}>"
