"""Every way a checkpoint's files can be wrong: one line that names the file and says what is the matter."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import pytest

from moshi_mlx.checkpoint.adapter import find_adapter
from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.checkpoint.random_checkpoint import TINY, TINY_MIMI, train_tokenizer, write_random_checkpoint
from moshi_mlx.errors import CheckpointError, ConfigError, MoshiError, QuantizationError
from tests.config_file import edit
from tests.weights_file import rewrite


@pytest.fixture
def folder_q4(tiny_q4: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_q4, tmp_path / "model"))


Spoil = Callable[[Path], object]


def holds(content: bytes) -> Spoil:
    return lambda path: path.write_bytes(content)


def holds_that_of(name: str) -> Spoil:
    return lambda path: shutil.copy(path.parent / name, path)


def without(*names: str) -> Spoil:
    return lambda path: rewrite(path, lambda arrays: [arrays.pop(name) for name in names])


def has(name: str, array: mx.array) -> Spoil:
    return lambda path: rewrite(path, lambda arrays: arrays.update({name: array}))


def says(**changes: object) -> Spoil:
    return lambda path: edit(path.parent, **changes)


def links_nowhere(path: Path) -> None:
    path.unlink()
    path.symlink_to("../../blobs/dead")


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1000)


LM, MIMI_FILE, TOKENIZER, CONFIG = "model.safetensors", "mimi.safetensors", "tokenizer.model", "config.json"
DEPTH = "depformer.layers.1.self_attn.in_proj_weight"
WRONG: list[tuple[str, Spoil, str]] = [
    (LM, holds(b"<html>401</html>"), r"is a web page"),
    (LM, cut, r"is cut short: [\d,]+ bytes, [\d,]+ expected"),
    (LM, holds(b""), r"is empty"),
    (LM, holds(b"PK\x03\x04" * 9), r"PyTorch pickle"),
    (LM, holds(b"GGUF" * 9), r"GGUF"),
    (LM, Path.unlink, r"has no file model\.safetensors"),
    (LM, links_nowhere, r"is a link to \.\./\.\./blobs/dead, which is not there; fetch it again"),
    (CONFIG, links_nowhere, r"is a link to \.\./\.\./blobs/dead, which is not there"),
    (CONFIG, holds(b'{"model_type": "llama", "hidden_size": 64}'), r"another program's .*: llama\)"),
    (CONFIG, holds(b'{"architectures": ["Moshi"]}'), r"another program's .*: \['Moshi'\]\)"),
    (
        LM,
        without("out_norm.alpha"),
        r"lacks out_norm\.alpha; does it belong to this config \(2 layers of 64, n_q 16, dep_q 8\)\?",
    ),
    (
        LM,
        without(*[f"emb.{i}.weight" for i in range(1, 7)]),
        r"lacks emb\.1\.weight, emb\.2\.weight, emb\.3\.weight and 3 more",
    ),
    (
        LM,
        has("transformer.layers.9.norm1.alpha", mx.ones((1, 1, 64))),
        r"holds transformer\.layers\.9\.norm1\.alpha, which this config does not have",
    ),
    (LM, has("text_emb.weight", mx.zeros((9, 64))), r"text_emb\.weight has shape \[9, 64\], \[257, 64\] expected"),
    (LM, has(DEPTH, mx.zeros((192, 64))), r"in_proj_weight has shape \[192, 64\], \[1536, 64\] expected"),
    (LM, has("out_norm.alpha", mx.zeros((64,))), r"out_norm\.alpha has shape \[64\], \[1, 1, 64\] expected"),
    (
        LM,
        has("text_emb.weight", mx.zeros((257, 64), mx.int8)),
        r"text_emb\.weight is of type I8, one of F32, F16, BF16 expected",
    ),
    (LM, has("linears.0.weight_scb", mx.ones((64,))), r"linears\.0\.weight \[64, 64\] F32; int8 levels"),
    (LM, holds_that_of(MIMI_FILE), r"holds the Mimi codec, not the language model"),
    (MIMI_FILE, holds(b"<html></html>"), r"is a web page"),
    (MIMI_FILE, cut, r"is cut short"),
    (
        MIMI_FILE,
        holds_that_of(LM),
        r"the Mimi weights lack encoder\.model\.0\.conv\.conv\.weight, .* and \d+ more",
    ),
    (
        MIMI_FILE,
        has("encoder.model.0.conv.conv.weight", mx.zeros((8, 1, 7))),
        r"\(8, 1, 7\) instead of \(4, 1, 7\)",
    ),
    (
        TOKENIZER,
        holds(train_tokenizer(200)),
        r"has 200 pieces, but text_card = 256 expected; it is the tokenizer of another model",
    ),
    (TOKENIZER, holds(b"<html></html>"), r"cannot load the tokenizer .*tokenizer\.model \(.+\); fetch it again"),
    (CONFIG, holds(b"{dim: 64"), r"is not JSON: .*line 1"),
    (CONFIG, holds(b"[1]"), r"a group of fields expected, list found"),
    (CONFIG, holds(b"\xff\xfe\x00"), r"is not JSON"),
    (CONFIG, says(dim=None), r"config field 'dim' is missing"),
    (CONFIG, says(flux=3), r"config field 'flux' is 3"),
    (CONFIG, says(mimi_name=3), r"'mimi_name' is 3: a file name expected"),
    (CONFIG, says(lm_gen_config=3), r"'lm_gen_config' is 3: a group of fields"),
    (CONFIG, says(lm_gen_config={"temp": "hot"}), r"'lm_gen_config\.temp' is 'hot'"),
    (CONFIG, says(quantization={"bits": 4, "group_size": 32}), r"config says q4 .* has no quantized weights"),
    (CONFIG, says(mimi_name="other.safetensors"), r"has no file other\.safetensors"),
    (CONFIG, says(mimi_name="file:///lost"), r"/lost does not exist"),
    (
        CONFIG,
        lambda path: with_large_codes(path.parent),
        r"has 8 codebooks of 64 codes, but the model needs 8 of 2048",
    ),
    ("mimi_config.json", holds(json.dumps(TINY_MIMI | {"frame_rate": 25}).encode()), r"'frame_rate' is 25"),
]


def with_large_codes(folder: Path) -> None:
    """A model of 2048 codes beside the tiny codec."""
    made = write_random_checkpoint(folder.parent / "large", TINY | {"card": 2048})
    shutil.copy(made / LM, folder)
    edit(folder, card=2048)


@pytest.mark.parametrize(("file", "spoil", "message"), WRONG, ids=[f"{row[0]}-{row[2]}" for row in WRONG])
def test_a_wrong_file_is_one_line_that_names_it(folder: Path, file: str, spoil: Spoil, message: str) -> None:
    spoil(folder / file)
    with pytest.raises(MoshiError, match=message) as caught:
        Checkpoint.resolve(str(folder))
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 400
    if not isinstance(caught.value, (ConfigError, QuantizationError)):
        assert str(folder) in text or "/lost" in text


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without("text_emb.biases"), r"text_emb is quantized in a way that MLX .* without biases"),
        (without("text_emb.scales"), r"holds text_emb\.biases, which this config does not have"),
        (has("text_emb.scales", mx.ones((257, 3))), r"text_emb is quantized in a way that MLX"),
        (has("text_linear.weight", mx.zeros((9, 8), mx.uint32)), r"text_linear\.weight has shape \[9, 8\]"),
        (
            has("text_linear.weight", mx.zeros((256, 5), mx.uint32)),
            r"text_linear is quantized in a way that MLX",
        ),
    ],
)
def test_a_damaged_quantized_file_is_refused(folder_q4: Path, spoil: Spoil, message: str) -> None:
    spoil(folder_q4 / LM)
    with pytest.raises(MoshiError, match=message):
        Checkpoint.resolve(str(folder_q4))


def test_scales_of_nothing_in_pytorchs_layout_are_refused(folder: Path) -> None:
    rewrite(folder / "model.safetensors", lambda a: a.update({"text_emb.scales": mx.ones((257, 2))}))
    with pytest.raises(QuantizationError, match=r"text_emb is quantized in a way that MLX does not have"):
        Checkpoint.resolve(str(folder))


def test_a_folder_that_is_no_model_says_what_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"has none of model\.safetensors, model\.q4\.safetensors, .*; is it a Moshi"
    ):
        Checkpoint.resolve(str(tmp_path))


def test_shards_beside_a_config_that_names_one_file_are_found(folder: Path) -> None:
    arrays: dict[str, mx.array] = dict(mx.load(str(folder / LM)))  # type: ignore[arg-type]
    names = sorted(arrays)
    places = {}
    for number in (1, 2):
        shard = f"model-{number:05}-of-00002.safetensors"
        mx.save_safetensors(str(folder / shard), {name: arrays[name] for name in names[number - 1 :: 2]})
        places |= dict.fromkeys(names[number - 1 :: 2], shard)
    (folder / f"{LM}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    (folder / LM).unlink()
    assert Checkpoint.resolve(folder).lm_weights.name == f"{LM}.index.json"


@pytest.mark.parametrize(
    ("file", "kind"), [("adapter_model.safetensors", "PEFT"), ("adapters.safetensors", "mlx-lm")]
)
def test_adapters_of_other_programs_are_named(folder: Path, tmp_path: Path, file: str, kind: str) -> None:
    other = tmp_path / "adapter"
    other.mkdir()
    (other / file).write_bytes(b"")
    (other / "adapter_config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=f"is an adapter of {kind} "):
        find_adapter(str(other), Checkpoint.resolve(folder))


def test_a_damaged_file_of_the_hubs_cache_comes_with_the_command_that_mends_it(
    folder: Path, tmp_path: Path
) -> None:
    snapshot = tmp_path / "models--me--my--tiny" / "snapshots" / ("a" * 40)
    shutil.copytree(folder, snapshot)
    cut(snapshot / LM)
    command = f"`hf download me/my--tiny {LM} --force-download`"
    with pytest.raises(CheckpointError, match=f"is cut short: .*; fetch it again: {command}"):
        Checkpoint.resolve(snapshot)
