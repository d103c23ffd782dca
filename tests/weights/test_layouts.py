"""Files of other programs: the same weights give the same logits, whatever layout they are stored in."""

import shutil
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.checkpoint.random_checkpoint import TINY, write_random_checkpoint
from moshi_mlx.errors import CheckpointError
from moshi_mlx.models.layers import dequantized
from moshi_mlx.models.lm import Lm
from moshi_mlx.quantize.writer import make_checkpoint
from moshi_mlx.weights.key_map import read_any
from moshi_mlx.weights.lm_weights import LmWeights
from moshi_mlx.weights.quantization import parse_recipe
from tests.config_file import edit
from tests.gguf_file import Q4_K, has_whole_blocks, meaning, write_gguf

LM = "model.safetensors"
Arrays = dict[str, np.ndarray]
CONFIG = TINY | {
    "depformer_weights_per_step_schedule": [0, 1, 2, 3, 4, 4, 4, 4],
    "depformer_low_rank_embeddings": 32,
    "extra_heads_num_heads": 2,
    "conditioners": {
        "description": {
            "type": "lut",
            "lut": {"n_bins": 5, "dim": 16, "tokenizer": "noop", "possible_values": ["bad", "good"]},
        }
    },
    "fuser": {"sum": ["description"]},
}  # the bends of every published config: shared steps, low rank, extra heads, a conditioner 16 wide


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_checkpoint(tmp_path_factory.mktemp("layouts") / "torch", CONFIG)


@pytest.fixture
def folder(dense: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(dense, tmp_path / "model"))


def arrays_of(folder: Path) -> Arrays:
    return {name: np.array(array) for name, array in mx.load(str(folder / LM)).items()}  # type: ignore[union-attr]


def write(path: Path, arrays: Arrays) -> None:
    mx.save_safetensors(str(path), {name: mx.array(array) for name, array in arrays.items()})


def logits(lm: Lm) -> list[np.ndarray]:
    """Text, extra and audio logits of three frames, with a condition."""
    config = lm.config
    rng = np.random.default_rng(3)
    tokens = mx.array(rng.integers(-1, config.card, (1, 1 + config.n_q, 3)), mx.int32)
    hidden = lm.temporal(tokens, lm.new_state(), lm.condition({"description": "good"}))
    heads = [head(hidden) for head in (lm.text_linear, *lm.extra_heads)]
    heads.append(lm.depformer.logits(hidden, tokens[:, : 1 + config.dep_q]))
    return [np.array(each) for each in heads]


def candle(arrays: Arrays) -> Arrays:
    """What Kyutai's import_rust.py makes of the tensors of PyTorch's file."""
    schedule = CONFIG["depformer_weights_per_step_schedule"]
    stacks = max(schedule) + 1
    made = {name: array for name, array in arrays.items() if not name.startswith(("depformer", "linears."))}
    for k, s in enumerate(schedule):
        step, table = f"depformer.{k}", f"depformer_emb.{k - 1}" if k else "depformer_text_emb"
        made[f"{step}.linear_in.weight"] = arrays[f"depformer_in.{s}.weight"]
        made[f"{step}.linear_out.weight"] = arrays[f"linears.{k}.weight"]
        made[f"{step}.emb.weight"] = arrays[f"{table}.weight"]
        made[f"{step}.emb.low_rank.weight"] = arrays[f"{table}.low_rank.weight"]
        for layer in range(CONFIG["depformer_num_layers"]):
            old, new = f"depformer.layers.{layer}", f"{step}.transformer.layers.{layer}"
            for name in ("self_attn.in_proj_weight", "self_attn.out_proj.weight"):
                made[f"{new}.{name}"] = np.split(arrays[f"{old}.{name}"], stacks)[s]
            for name in ("norm1.alpha", "norm2.alpha"):
                made[f"{new}.{name}"] = arrays[f"{old}.{name}"]
            for name in ("linear_in.weight", "linear_out.weight"):
                made[f"{new}.gating.{name}"] = arrays[f"{old}.gating.{s}.{name}"]
    return made


def is_linear(name: str) -> bool:
    """Whether bitsandbytes quantizes a tensor: matrices that are no tables."""
    return "alpha" not in name and "padding" not in name and ("emb" not in name or "low_rank" in name)


def bitsandbytes(arrays: Arrays, rename: Callable[[str], str] = lambda name: name) -> tuple[Arrays, Arrays]:
    """What Kyutai's export_quantized.py makes of PyTorch's tensors, and the weights that it stands for."""
    made, meant = dict(arrays), dict(arrays)
    for name, array in arrays.items():
        if not is_linear(name):
            continue
        scb = np.abs(array).max(axis=1)
        levels = np.round(127 * array / scb[:, None]).astype(np.int8)
        del made[name]
        made |= {rename(name): levels, f"{rename(name)}_scb": scb}
        meant[name] = levels * (scb / np.float32(127))[:, None]
    return made, meant


def assert_same_logits(model: Lm, expected: Lm, tolerance: float = 0.0) -> None:
    for got, wanted in zip(logits(model), logits(expected), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=0, atol=tolerance * np.abs(wanted).max())


def test_a_candle_file_gives_the_logits_of_pytorchs(dense: Path, folder: Path) -> None:
    write(folder / LM, candle(arrays_of(dense)))
    weights = Checkpoint.resolve(folder).weights
    assert weights.layout == "candle"
    model = weights.load()
    assert_same_logits(model, Checkpoint.resolve(dense).load_lm())
    assert weights.nbytes == Checkpoint.resolve(dense).weights.nbytes  # steps share what is equal in the file


def test_steps_of_a_candle_file_that_were_trained_apart_stay_apart(dense: Path, folder: Path) -> None:
    arrays = candle(arrays_of(dense))
    arrays["depformer.7.linear_in.weight"] = arrays["depformer.7.linear_in.weight"] + 1
    write(folder / LM, arrays)
    slices = Checkpoint.resolve(folder).load_lm().depformer.slices
    difference = np.array(slices[7].linear_in.weight - slices[6].linear_in.weight)
    np.testing.assert_allclose(difference, 1, atol=1e-6)


def split_name(name: str) -> str:
    """The name that current PyTorch code saves: a module for each block of rows."""
    return name.replace("in_proj_weight", "in_projs.0.weight").replace("out_proj.weight", "out_projs.0.weight")


@pytest.mark.parametrize(
    "rename",
    [
        lambda name: name,
        lambda name: name.replace("in_proj_weight", "in_proj.weight"),
        lambda name: split_name(name) if name.startswith("transformer.") else name,
    ],
    ids=["parameters", "modules", "split"],
)
def test_a_file_of_bitsandbytes_gives_the_logits_of_the_weights_it_stands_for(
    dense: Path, folder: Path, tmp_path: Path, rename: Callable[[str], str]
) -> None:
    made, meant = bitsandbytes(arrays_of(dense), rename)
    write(folder / LM, made)
    edit(folder, quantize=True)
    weights = Checkpoint.resolve(folder).weights
    assert weights.default_dtype == mx.float32
    write(tmp_path / LM, meant)
    expected = LmWeights(tmp_path / LM, weights.config).load()
    model = weights.load()
    assert (model.text_linear.bits, model.text_linear.group_size) == (8, 64)
    assert_same_logits(model, expected, 3e-6)
    assert np.abs(logits(model)[0] - logits(Checkpoint.resolve(dense).load_lm())[0]).max() > 1e-3  # it is rounded


def test_a_file_of_bitsandbytes_reads_as_exactly_the_weights_it_stands_for(dense: Path, folder: Path) -> None:
    made, meant = bitsandbytes(arrays_of(dense))
    write(folder / LM, made)
    lm = Checkpoint.resolve(folder).load_lm()
    projections = [lm.depformer.slices[step].transformer.layers[1].self_attn.in_proj for step in (4, 6)]
    for layer, name, part in (
        (lm.text_linear, "text_linear.weight", 0),
        *((projection, "depformer.layers.1.self_attn.in_proj_weight", 4) for projection in projections),
    ):
        rows = layer.weight.shape[0]
        parts = [layer["weight"], layer["scales"], layer["biases"]]
        got = dequantized(parts, 64, 8, "affine")
        wanted = meant[name][part * rows : (part + 1) * rows]
        np.testing.assert_allclose(np.array(got), wanted, rtol=0, atol=3e-7 * np.abs(wanted).max())
    narrow = lm.condition_provider.conditioners["description"].output_proj.weight  # 16 wide: dense
    np.testing.assert_array_equal(
        np.array(narrow), meant["condition_provider.conditioners.description.output_proj.weight"]
    )


def test_levels_without_their_scales_are_refused(dense: Path, folder: Path) -> None:
    made, _ = bitsandbytes(arrays_of(dense))
    made["text_linear.weight_scb"] = made["text_linear.weight_scb"][:-1]
    write(folder / LM, made)
    with pytest.raises(
        CheckpointError, match=r"weight_scb is \[255\] F32 and text_linear\.weight \[256, 64\] I8; int8"
    ):
        Checkpoint.resolve(folder)


def test_a_gguf_file_gives_the_logits_of_the_weights_it_stands_for(
    dense: Path, folder: Path, tmp_path: Path
) -> None:
    arrays = candle(arrays_of(dense))
    write_gguf(folder / "model.q8.gguf", arrays)
    (folder / LM).unlink()
    edit(folder, moshi_name="model.q8.gguf")
    weights = Checkpoint.resolve(folder).weights
    meant = {name: meaning(one) if has_whole_blocks(name, one) else one for name, one in arrays.items()}
    write(tmp_path / LM, meant)
    expected = LmWeights(tmp_path / LM, weights.config).load()
    done: list[int] = []
    model = weights.load(advance=done.append)
    assert sum(done) == weights.nbytes
    assert str(weights.scheme) == "8 bits, group 32"
    assert_same_logits(model, expected, 3e-6)
    assert not hasattr(model.depformer.slices[0].emb, "scales")  # what a low-rank layer follows stays dense
    assert hasattr(model.text_emb, "scales")


def test_doctor_counts_the_bytes_of_a_gguf_file(dense: Path, folder: Path) -> None:
    arrays = candle(arrays_of(dense))
    write_gguf(folder / "model.q8.gguf", arrays)
    (folder / LM).unlink()
    edit(folder, moshi_name="model.q8.gguf")
    matrices = sum(one.size for name, one in arrays.items() if has_whole_blocks(name, one))
    others = sum(one.size for name, one in arrays.items() if not has_whole_blocks(name, one))
    tensors = read_any(Checkpoint.find(folder).lm_weights).values()
    assert sum(tensor.end - tensor.begin for tensor in tensors) == matrices * 34 // 32 + 4 * others


def test_a_gguf_file_without_a_config_is_found(dense: Path, folder: Path) -> None:
    write_gguf(folder / "model.q8.gguf", candle(arrays_of(dense)))
    (folder / LM).unlink()
    edit(folder, moshi_name=None)
    assert Checkpoint.resolve(folder).lm_weights == folder / "model.q8.gguf"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda content: content[:-1000], r"model\.q8\.gguf is cut short: [\d,]+ bytes, [\d,]+ expected"),
        (lambda content: content[:90], r"is not a GGUF file: its header is damaged"),
        (lambda content: b"GGML" + content[4:], r"is not a GGUF file; fetch it again"),
        (lambda content: content[:4] + b"\x09" + content[5:], r"its header is damaged"),
    ],
    ids=["cut", "header", "magic", "version"],
)
def test_a_damaged_gguf_file_is_refused(
    dense: Path, folder: Path, spoil: Callable[[bytes], bytes], message: str
) -> None:
    path = folder / "model.q8.gguf"
    write_gguf(path, candle(arrays_of(dense)))
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(CheckpointError, match=message):
        Checkpoint.resolve(folder, lm_weights=str(path))


def test_other_types_of_gguf_are_named(dense: Path, folder: Path) -> None:
    path = folder / "model.gguf"
    write_gguf(path, candle(arrays_of(dense)), matrices=Q4_K)
    with pytest.raises(
        CheckpointError, match=r"weight is of GGUF's type Q4_K, of which only Q8_0 matrices are read"
    ):
        Checkpoint.resolve(folder, lm_weights=str(path))


@pytest.mark.parametrize("kind", ["bitsandbytes", "gguf"])
def test_int8_files_are_converted_to_our_own(dense: Path, folder: Path, tmp_path: Path, kind: str) -> None:
    if kind == "gguf":
        write_gguf(folder / "model.q8.gguf", candle(arrays_of(dense)))
        (folder / LM).unlink()
        edit(folder, moshi_name="model.q8.gguf")
    else:
        write(folder / LM, bitsandbytes(arrays_of(dense))[0])
        edit(folder, quantize=True)
    source = Checkpoint.resolve(folder)
    made = make_checkpoint(source, tmp_path / "bf16", parse_recipe("bf16"))
    ours = Checkpoint.resolve(made.folder)
    assert ours.weights.layout == "mlx"
    assert_same_logits(ours.load_lm(mx.float32), source.load_lm(), 0.02)
    again = make_checkpoint(source, tmp_path / "q8", parse_recipe("q8"), requantize=True)
    assert_same_logits(Checkpoint.resolve(again.folder).load_lm(mx.float32), source.load_lm(), 0.05)
