"""LoRA adapters as moshi-finetune writes them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.checkpoint.adapter import find_adapter
from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.checkpoint.random_checkpoint import write_random_checkpoint
from moshi_mlx.errors import CheckpointError, ConfigError
from moshi_mlx.quantize.card import Made
from moshi_mlx.weights.adapter import Adapter
from moshi_mlx.weights.lm_weights import parameter_shapes
from moshi_mlx.weights.safetensors import from_bits, read_header, read_rows
from tests.hub_stub import fill_cache
from tests.quantize.conftest import SMALL
from tests.weights_file import rewrite

RANK, SCALING = 4, 2.5
DEPTH = "depformer.slices.{}.transformer.layers.0."
MODULES = {  # PyTorch's names -> ours, and the shape of the weight
    "transformer.layers.0.self_attn.in_projs.0": ("transformer.layers.0.self_attn.in_proj", (384, 128)),
    "transformer.layers.0.self_attn.out_projs.0": ("transformer.layers.0.self_attn.out_proj", (128, 128)),
    "transformer.layers.0.gating.linear_out": ("transformer.layers.0.gating.linear_out", (128, 384)),
    "text_linear": ("text_linear", (256, 128)),
    "linears.1": ("depformer.slices.1.linear_out", (64, 64)),
    "depformer_in.0": ("depformer.slices.0.linear_in", (64, 128)),
    "depformer.layers.0.self_attn.in_projs.1": (DEPTH.format(1) + "self_attn.in_proj", (192, 64)),
    "depformer.layers.0.gating.1.linear_in": (DEPTH.format(1) + "gating.linear_in", (256, 64)),
}
Make = Callable[..., Made]


def factors(modules: dict[str, tuple[str, tuple[int, ...]]]) -> dict[str, np.ndarray]:
    """Random A and B for modules."""
    rng, tensors = np.random.default_rng(0), {}
    for module, (_, (rows, columns)) in modules.items():
        tensors[f"{module}.lora_A.weight"] = rng.standard_normal((RANK, columns)).astype(np.float32) / 8
        tensors[f"{module}.lora_B.weight"] = rng.standard_normal((rows, RANK)).astype(np.float32) / 8
    return tensors


def adapter(folder: Path, tensors: dict[str, np.ndarray], dtype: mx.Dtype = mx.float32, **config: object) -> Path:
    folder.mkdir()
    arrays = {name: mx.array(array).astype(dtype) for name, array in tensors.items()}
    mx.save_safetensors(str(folder / "lora.safetensors"), arrays)
    settings = {**SMALL, "lora": True, "lora_rank": RANK, "lora_scaling": SCALING, **config}
    (folder / "config.json").write_text(json.dumps(settings))
    return folder


def found(small: Path, folder: Path, **options) -> Adapter:
    return find_adapter(str(folder), Checkpoint.resolve(small), **options)


def numbers(folder: Path) -> dict[str, np.ndarray]:
    """All tensors of a dense bfloat16 file, in float32."""
    header = read_header(folder / "model.safetensors")
    return {name: from_bits(read_rows(tensor)) for name, tensor in header.items()}


def nearest(array: np.ndarray) -> np.ndarray:
    return np.array(mx.array(array.astype(np.float32)).astype(mx.bfloat16).astype(mx.float32))


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16, mx.float16])
def test_merged_weights_are_base_plus_scaling_b_a_in_float32(
    make: Make, small: Path, tmp_path: Path, dtype: mx.Dtype
) -> None:
    tensors = factors(MODULES)
    lora = found(small, adapter(tmp_path / "adapter", tensors, dtype))
    base, merged = numbers(make("bf16").folder), numbers(make("bf16", name="merged", lora=lora).folder)
    ours = {name: module for module, (name, _) in MODULES.items()}
    for name, array in base.items():
        module = ours.get(name.removesuffix(".weight"))
        if not module:
            np.testing.assert_array_equal(merged[name], array, name)
            continue
        down, up = (
            np.array(mx.array(tensors[f"{module}.lora_{side}.weight"]).astype(dtype).astype(mx.float32))
            for side in "AB"
        )
        exact = array.astype(np.float64) + SCALING * up.astype(np.float64) @ down.astype(np.float64)
        in_float32 = lora.merge(name, array)
        assert in_float32.dtype == np.float32
        np.testing.assert_allclose(in_float32, exact, rtol=0, atol=4e-7 * np.abs(exact).max())
        np.testing.assert_array_equal(merged[name], nearest(in_float32), name)
        assert np.abs(merged[name] - array).max() > 0.01


def test_rows_are_merged_where_they_are(small: Path, tmp_path: Path) -> None:
    lora = found(small, adapter(tmp_path / "adapter", factors(MODULES)))
    for name in (f"{one}.weight" for one, _ in MODULES.values()):
        shape = parameter_shapes(Checkpoint.resolve(small).lm_config)[name]
        rows = np.random.default_rng(1).standard_normal(shape)
        whole = lora.merge(name, rows.astype(np.float32))
        piece = lora.merge(name, rows[5:9].astype(np.float32), 5)
        np.testing.assert_allclose(piece, whole[5:9], atol=1e-6)


def test_older_files_stack_all_steps_of_an_attention(make: Make, small: Path, tmp_path: Path) -> None:
    split = {
        f"depformer.layers.0.self_attn.{kind}_projs.{step}": ("", shape)
        for kind, shape in (("in", (192, 64)), ("out", (64, 64)))
        for step in (0, 1)
    }
    tensors = factors(split)
    stacked = {}
    for kind in ("in", "out"):
        for side in "AB":
            parts = [
                tensors[f"depformer.layers.0.self_attn.{kind}_projs.{step}.lora_{side}.weight"] for step in (0, 1)
            ]
            stacked[f"depformer.layers.0.self_attn.{kind}_proj.lora_{side}.weight"] = np.concatenate(parts)
    folders = [adapter(tmp_path / "split", tensors), adapter(tmp_path / "stacked", stacked)]
    made = [make("q4", name=f"of-{one.name}", lora=found(small, one)) for one in folders]
    files = [(one.folder / "model.safetensors").read_bytes() for one in made]
    assert files[0] == files[1]
    assert files[0] != (make("q4").folder / "model.safetensors").read_bytes()


def test_embeddings_that_were_trained_as_well_take_the_place_of_the_bases(
    make: Make, small: Path, tmp_path: Path
) -> None:
    table = np.random.default_rng(2).standard_normal((65, 128)).astype(np.float32)
    tensors = {**factors({"text_linear": MODULES["text_linear"]}), "emb.2.weight": table}
    lora = found(small, adapter(tmp_path / "adapter", tensors, mx.bfloat16))
    merged = numbers(make("bf16", name="merged", lora=lora).folder)
    np.testing.assert_array_equal(merged["audio_embs.2.weight"], nearest(table))
    np.testing.assert_array_equal(lora.merge("audio_embs.2.weight", table[3:5], 3), nearest(table[3:5]))


def test_an_adapter_merges_into_either_layout(make: Make, small: Path, tmp_path: Path) -> None:
    folder = adapter(tmp_path / "adapter", factors(MODULES))
    mlx = make("bf16", name="mlx").folder
    one = make("q8", name="one", lora=found(small, folder))
    other = make("q8", mlx, "other", lora=found(mlx, folder))
    assert (one.folder / "model.safetensors").read_bytes() == (other.folder / "model.safetensors").read_bytes()


def test_a_quantized_base_is_dequantized_only_where_the_adapter_is(
    make: Make, small: Path, tmp_path: Path
) -> None:
    lora = found(small, adapter(tmp_path / "adapter", factors({"text_linear": MODULES["text_linear"]})))
    base = make("q4").folder
    made = make("q4", base, "merged", lora=lora, requantize=True).folder
    before, after = (
        {n: read_rows(t) for n, t in read_header(f / "model.safetensors").items()} for f in (base, made)
    )
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {f"text_linear.{leaf}" for leaf in ("weight", "scales", "biases")}


def test_what_was_merged_is_no_adapter_any_more(make: Make, small: Path, tmp_path: Path) -> None:
    lora = found(small, adapter(tmp_path / "adapter", factors(MODULES)))
    folder = make("q8", lora=lora).folder
    settings = json.loads((folder / "config.json").read_text())
    assert not {"lora", "lora_rank", "lora_scaling"} & settings.keys()
    assert "with the LoRA adapter `lora.safetensors` merged" in (folder / "README.md").read_text()


def test_the_scaling_is_the_configs_or_the_one_given(small: Path, tmp_path: Path) -> None:
    folder = adapter(tmp_path / "adapter", factors(MODULES))
    assert found(small, folder).scaling == SCALING
    assert found(small, folder, scaling=1.0).scaling == 1.0
    assert found(small, folder / "lora.safetensors").scaling == SCALING
    silent = adapter(tmp_path / "silent", factors(MODULES), lora_scaling=None)
    with pytest.raises(ConfigError, match=r"silent/config\.json says no lora_scaling; give --lora-scaling"):
        found(small, silent)
    (silent / "config.json").unlink()
    with pytest.raises(ConfigError, match=r"no config\.json beside .*lora\.safetensors; give --lora-scaling"):
        found(small, silent)
    assert found(small, silent, scaling=2.0).scaling == 2.0


@pytest.mark.parametrize("scaling", ["NaN", "Infinity", "1e39", "-1e39", "1" + "0" * 400])
def test_a_scaling_that_is_no_float_is_refused(scaling: str, small: Path, tmp_path: Path) -> None:
    folder = adapter(tmp_path / "adapter", factors(MODULES))
    settings = json.loads((folder / "config.json").read_text())
    settings["lora_scaling"] = json.loads(scaling)
    (folder / "config.json").write_text(json.dumps(settings))
    with pytest.raises(
        ConfigError, match=r"the adapter's scaling is .*: a number that float32 holds expected"
    ) as no:
        found(small, folder)
    assert len(str(no.value)) < 250
    assert found(small, folder, scaling=-1e38).scaling == -1e38


def test_an_adapter_of_rank_0_is_refused(small: Path, tmp_path: Path) -> None:
    tensors = factors(MODULES) | {"text_linear.lora_A.weight": np.zeros((0, 128), np.float32)}
    tensors |= {"text_linear.lora_B.weight": np.zeros((256, 0), np.float32)}
    with pytest.raises(
        CheckpointError, match=r"text_linear\.lora_B\.weight has shape \[256, 0\], a rank of 0 that"
    ):
        found(small, adapter(tmp_path / "adapter", tensors))


def test_the_adapters_config_may_name_its_file(small: Path, tmp_path: Path) -> None:
    folder = adapter(tmp_path / "adapter", factors(MODULES), lora_name="step-100.safetensors")
    with pytest.raises(CheckpointError, match=r"has no file step-100\.safetensors"):
        found(small, folder)
    (folder / "lora.safetensors").rename(folder / "step-100.safetensors")
    assert found(small, folder).path.name == "step-100.safetensors"
    (folder / "config.json").write_text('{"lora_name": 5, "lora_scaling": 2}')
    with pytest.raises(ConfigError, match=r"'lora_name' is 5: a file name expected"):
        found(small, folder)


def without(tensors: dict[str, np.ndarray], end: str) -> dict[str, np.ndarray]:
    return {name: array for name, array in tensors.items() if not name.endswith(end)}


@pytest.mark.parametrize(
    ("tensors", "config", "message"),
    [
        (
            factors({"text_linear": ("", (256, 64))}), {},
            r"text_linear\.lora_A\.weight has shape \[4, 64\], \[4, 128\] expected; it was made for another base",
        ),
        (
            factors({"text_linear": ("", (300, 128))}), {},
            r"text_linear\.lora_B\.weight has shape \[300, 4\], \[256, 4\] expected; it was made for another base",
        ),
        (
            factors({"transformer.layers.7.gating.linear_in": ("", (8, 8))}), {},
            r"adapts transformer\.layers\.7\.\S+, \S+, which this model does not have; .*another base",
        ),
        (
            without(factors(MODULES), "linears.1.lora_B.weight"), {},
            r"has linears\.1\.lora_A\.weight but no linears\.1\.lora_B",
        ),
        ({"text_linear.weight": np.zeros((256, 128), np.float32)}, {}, r"is not a LoRA adapter \(no lora_A\)"),
        (factors(MODULES), {"context": 65}, r"another base: its config differs from this model's in transformer"),
        (
            factors(MODULES), {"model_id": {"sig": "ffffffff"}},
            r"another base: model_id .*ffffffff.*, but this model's is .*a0b1",
        ),
    ],
    ids=["width", "rows", "layers", "half", "no adapter", "config", "id"],
)  # fmt: skip
def test_an_adapter_of_another_base_is_refused_in_one_line(
    small: Path, tmp_path: Path, tensors: dict[str, np.ndarray], config: dict, message: str
) -> None:
    folder = adapter(tmp_path / "adapter", tensors, **config)
    with pytest.raises(CheckpointError, match=message) as caught:
        found(small, folder)
    assert "\n" not in str(caught.value)


def test_integers_are_no_adapter(small: Path, tmp_path: Path) -> None:
    folder = adapter(tmp_path / "adapter", factors(MODULES), mx.int32)
    with pytest.raises(CheckpointError, match=r"lora_A\.weight is of type I32, one of F32, F16, BF16 expected"):
        found(small, folder)


def test_an_adapter_is_no_model_but_the_way_to_make_one_is_said(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "adapter", factors(MODULES))
    for name in (folder, folder / "lora.safetensors"):
        with pytest.raises(CheckpointError, match=r"is a LoRA adapter.*`moshi-mlx quantize BASE FOLDER .*--lora"):
            Checkpoint.resolve(name)


@pytest.mark.parametrize(
    "named", [None, "model.safetensors", "hf://kyutai/moshiko-pytorch-bf16/model.safetensors"]
)
def test_a_full_fine_tune_is_a_model(make: Make, small: Path, tmp_path: Path, named: str | None) -> None:
    """moshi-finetune: consolidated.safetensors, and the base's config with the adapter's keys added."""
    folder = write_random_checkpoint(tmp_path / "tuned", SMALL, seed=5, dtype="bfloat16")
    expected = make("q4", folder, "expected")
    (folder / "model.safetensors").rename(folder / "consolidated.safetensors")
    settings = json.loads((folder / "config.json").read_text())
    settings |= {"lora": True, "lora_rank": 64, "lora_scaling": 2.0, "moshi_name": named}
    (folder / "config.json").write_text(json.dumps(settings))
    for source in (folder, folder / "consolidated.safetensors"):
        made = make("q4", source, f"of-{source.name}")
        assert (made.folder / "model.safetensors").read_bytes() == (
            expected.folder / "model.safetensors"
        ).read_bytes()
        assert "lora" not in json.loads((made.folder / "config.json").read_text())


def test_a_full_fine_tune_on_the_hub_is_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_random_checkpoint(tmp_path / "tuned", SMALL, dtype="bfloat16")
    settings = json.loads((folder / "config.json").read_text()) | {"lora": True, "lora_rank": 64}
    (folder / "config.json").write_text(json.dumps(settings))
    files = {path.name: path for path in folder.iterdir()}
    files["consolidated.safetensors"] = files.pop("model.safetensors")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    snapshot = fill_cache(tmp_path / "cache", "me/tuned", files)
    missing = snapshot.parents[1] / ".no_exist" / snapshot.name / "model.safetensors"
    missing.parent.mkdir(parents=True)
    missing.touch()
    assert Checkpoint.resolve("me/tuned", offline=True).lm_weights.name == "consolidated.safetensors"


def spoilt(name: str, value: float) -> Callable[[dict[str, np.ndarray]], object]:
    return lambda tensors: tensors[name].__setitem__((1, 2), value)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoilt("text_linear.lora_A.weight", np.nan), r"text_linear\.lora_A\.weight holds infinities or NaN; "),
        (spoilt("text_linear.lora_B.weight", np.inf), r"text_linear\.lora_B\.weight holds infinities or NaN"),
        (spoilt("emb.2.weight", -np.inf), r"emb\.2\.weight holds infinities or NaN"),
        (spoilt("text_linear.lora_B.weight", 3e38), r"merging text_linear with a scaling of 25\.0 gives"),
        (spoilt("text_linear.lora_B.weight", 3e30), None),
        (lambda tensors: tensors["text_linear.lora_B.weight"].fill(0), None),  # not trained yet
    ],
)  # fmt: skip
def test_an_adapter_that_is_no_number_is_blamed_and_not_its_base(
    make: Make, small: Path, tmp_path: Path, spoil: Callable[[dict[str, np.ndarray]], object], message: str | None
) -> None:
    tensors = {**factors({"text_linear": MODULES["text_linear"]}), "emb.2.weight": np.ones((65, 128), np.float32)}
    spoil(tensors)
    lora = found(small, adapter(tmp_path / "adapter", tensors), scaling=25.0)
    if message:
        with pytest.raises(CheckpointError, match=message) as refused:
            make("q4", lora=lora)
        assert str(refused.value).startswith(f"{tmp_path / 'adapter' / 'lora.safetensors'}: ")
    else:
        assert make("q4", lora=lora).notes == ()


def test_a_base_that_is_no_number_is_blamed_and_not_the_adapter(make: Make, small: Path, tmp_path: Path) -> None:
    lora = found(small, adapter(tmp_path / "adapter", factors({"text_linear": MODULES["text_linear"]})))
    base = shutil.copytree(small, tmp_path / "base")
    rewrite(base / "model.safetensors", lambda arrays: arrays["text_linear.weight"].__setitem__((0, 0), mx.nan))
    with pytest.raises(
        CheckpointError, match=r"base/model\.safetensors: text_linear\.weight holds infinities or NaN"
    ):
        make("q4", base, lora=lora)


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module."])
def test_the_prefixes_of_pytorchs_wrappers_are_left_out(
    make: Make, small: Path, tmp_path: Path, prefix: str
) -> None:
    tensors = factors(MODULES)
    plain = adapter(tmp_path / "plain", tensors)
    wrapped = adapter(tmp_path / "wrapped", {prefix + name: array for name, array in tensors.items()})
    files = [make("q8", name=f"of-{one.name}", lora=found(small, one)).folder for one in (plain, wrapped)]
    assert len({(one / "model.safetensors").read_bytes() for one in files}) == 1
