"""Random checkpoints: what is written is what is loaded, the same for the same seed."""

import json
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.checkpoint.random_checkpoint import (
    TINY,
    TINY_MIMI,
    lm_tensors,
    train_tokenizer,
    write_random_checkpoint,
)
from moshi_mlx.checkpoint.tokenizer import TextTokenizer
from moshi_mlx.errors import CheckpointError, ConfigError, QuantizationError
from moshi_mlx.models.config import LmConfig
from moshi_mlx.models.layers import Embedding, parameters
from moshi_mlx.weights.quantization import SCHEMES
from moshi_mlx.weights.safetensors import read_header

KINDS = [("torch", None), ("mlx", None), ("mlx", "q4"), ("mlx", "q8")]


@pytest.mark.parametrize(("layout", "scheme"), KINDS)
def test_a_written_folder_is_a_checkpoint(tmp_path: Path, layout: str, scheme: str | None) -> None:
    folder = write_random_checkpoint(tmp_path / "model", layout=layout, scheme=scheme)
    checkpoint = Checkpoint.resolve(str(folder), offline=True)
    assert checkpoint.weights.layout == layout
    settings = json.loads((folder / "config.json").read_text())
    assert settings.get("quantization") == (SCHEMES[scheme].block() if scheme else None)
    assert checkpoint.scheme == (SCHEMES[scheme] if scheme else None)
    assert checkpoint.load_tokenizer().size == TINY["text_card"]
    lm = checkpoint.load_lm()
    tokens = mx.array(np.random.default_rng(0).integers(-1, 64, (1, 17, 4)))
    hidden = lm.temporal(tokens, lm.new_state())
    for logits in (lm.text_linear(hidden), lm.depformer.logits(hidden, tokens[:, :9])):
        assert 0.3 < np.array(logits).std() < 3, "activations should keep a sane size"


@pytest.mark.parametrize(("layout", "scheme"), KINDS)
def test_the_seed_decides_every_byte(tmp_path: Path, layout: str, scheme: str | None) -> None:
    one, again, other = (
        write_random_checkpoint(tmp_path / name, seed=seed, layout=layout, scheme=scheme)
        for name, seed in (("one", 1), ("again", 1), ("other", 2))
    )
    for file in sorted(one.iterdir()):
        assert file.read_bytes() == (again / file.name).read_bytes(), file.name
    for name in ("model.safetensors", "mimi.safetensors"):
        assert (one / name).read_bytes() != (other / name).read_bytes()


def test_both_layouts_hold_the_same_model(tmp_path: Path) -> None:
    loaded = []
    for layout in ("torch", "mlx"):
        folder = write_random_checkpoint(tmp_path / layout, layout=layout, dtype="bfloat16")
        loaded.append(parameters(Checkpoint.resolve(str(folder)).load_lm()))
    assert loaded[0].keys() == loaded[1].keys()
    assert all(mx.array_equal(loaded[0][name], loaded[1][name]) for name in loaded[0])


def test_bfloat16_is_rounded_as_mlx_rounds(tmp_path: Path) -> None:
    exact, rounded = (
        parameters(Checkpoint.resolve(str(write_random_checkpoint(tmp_path / dtype, dtype=dtype))).load_lm())
        for dtype in ("float32", "bfloat16")
    )
    assert all(mx.array_equal(exact[name].astype(mx.bfloat16), rounded[name]) for name in exact)


def test_tables_with_a_low_rank_layer_stay_dense_as_mlx_leaves_them(tmp_path: Path) -> None:
    config = TINY | {"depformer_low_rank_embeddings": 32}
    folder = write_random_checkpoint(tmp_path / "model", config, layout="mlx", scheme="q4")
    lm = Checkpoint.resolve(str(folder)).load_lm()
    table = lm.depformer.slices[1].emb
    assert isinstance(table, Embedding)
    assert table.weight.dtype == mx.bfloat16
    assert table.low_rank.weight.dtype == mx.uint32


def test_the_header_of_a_full_size_model_is_the_published_one() -> None:
    from moshi_mlx.models.config import MOSHI_7B

    config = LmConfig.from_dict(MOSHI_7B)
    items = {"U32": 4, "BF16": 2}
    sizes = {}
    for name, scheme in SCHEMES.items():
        tensors = lm_tensors(config, "mlx", scheme, "BF16")
        sizes[name] = sum(items[tensor.dtype] * int(np.prod(tensor.shape)) for tensor in tensors.values())
    # Kyutai's files are ~4.80 and ~8.17 GB; 7.688 B parameters at 5 and 8.5 bits (performance.md counts 4.805 GB)
    assert sizes["q4"] == pytest.approx(4.805e9, rel=1e-3)
    assert sizes["q8"] == pytest.approx(8.17e9, rel=1e-3)


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(CheckpointError, match="exists; choose another place"):
        write_random_checkpoint(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_failure_leaves_no_half_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'text_card' is 5"):
        write_random_checkpoint(tmp_path / "model", TINY | {"text_card": 5})
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"cannot write .*file/model"):
        write_random_checkpoint(tmp_path / "file" / "model")


def test_what_cannot_be_made_is_said(tmp_path: Path) -> None:
    with pytest.raises(QuantizationError, match="only the MLX layout"):
        write_random_checkpoint(tmp_path / "a", scheme="q4", layout="torch")
    with pytest.raises(ConfigError, match="dtype 'int8'"):
        write_random_checkpoint(tmp_path / "a", dtype="int8")


@pytest.mark.parametrize("size", [256, 600, 8000])
def test_tokenizers_have_exactly_the_size_asked_for(tmp_path: Path, size: int) -> None:
    path = tmp_path / "tokenizer.model"
    path.write_bytes(train_tokenizer(size))
    tokenizer = TextTokenizer(path, silent=())
    assert tokenizer.size == size
    assert [tokenizer.raw(id) for id in range(4)] == [b""] * 4
    assert tokenizer.raw(size - 1)


def test_the_codec_file_has_the_published_names(tmp_path: Path) -> None:
    folder = write_random_checkpoint(tmp_path / "model")
    header = read_header(folder / "mimi.safetensors")
    for name in (
        "encoder.model.0.conv.conv.weight",
        "decoder.model.2.convtr.convtr.bias",
        "encoder_transformer.transformer.layers.1.self_attn.in_proj_weight",
        "quantizer.rvq_rest.vq.layers.6._codebook.embedding_sum",
        "upsample.convtr.convtr.convtr.weight",
    ):
        assert name in header
    assert json.loads((folder / "mimi_config.json").read_text()) == TINY_MIMI
