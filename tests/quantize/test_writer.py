"""Model folders: whole or not there, and loaded like any other."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.checkpoint.random_checkpoint import TINY, write_random_checkpoint
from moshi_mlx.errors import CheckpointError, ConfigError, QuantizationError
from moshi_mlx.frames import FRAME_SAMPLES
from moshi_mlx.models.config import MOSHI_7B
from moshi_mlx.quantize.card import Made
from moshi_mlx.quantize.writer import check_free, make_checkpoint
from moshi_mlx.runtime.moshi import load
from moshi_mlx.weights.quantization import RECIPES, Recipe, Scheme
from moshi_mlx.weights.safetensors import read_header
from tests.quantize.conftest import SMALL

Make = Callable[..., Made]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_folder_is_a_model_that_talks(make: Make, tiny_folder: Path, noise_frames: np.ndarray) -> None:
    made = make("mixed", tiny_folder)
    assert names(made.folder) == [
        "README.md", "config.json", "mimi.safetensors", "mimi_config.json", "model.safetensors", "tokenizer.model",
    ]  # fmt: skip
    with load(made.folder, codec="mlx", offline=True).session(seed=1) as session:
        replies = [session.step(frame) for frame in noise_frames[:5]]
    assert replies[-1].audio is not None
    assert replies[-1].audio.shape == (FRAME_SAMPLES,)


def test_its_config_is_the_sources_and_says_how_it_is_quantized(make: Make, small: Path) -> None:
    recipe = Recipe("mine", Scheme(4, 32), {"text_linear": False, "text_emb": {"bits": 8, "group_size": 64}})
    ours, theirs = (json.loads((folder / "config.json").read_text()) for folder in (make(recipe).folder, small))
    assert ours.pop("quantization") == {
        "bits": 4, "group_size": 32, "mode": "affine", "text_linear": False,
        "text_emb": {"bits": 8, "group_size": 64, "mode": "affine"},
    }  # fmt: skip
    assert ours == theirs


def test_what_was_made_is_counted(make: Make, small: Path) -> None:
    made = make("q4")
    header = read_header(made.folder / "model.safetensors")
    assert made.weights == sum(tensor.nbytes for tensor in header.values())
    weights = sum(np.prod(tensor.shape) for tensor in read_header(small / "model.safetensors").values())
    assert made.bits_per_weight == pytest.approx(8 * made.weights / weights, rel=1e-3)
    assert 5.0 < made.bits_per_weight < 5.2
    assert made.files == {
        name: (made.folder / name).stat().st_size for name in names(made.folder) if name != "README.md"
    }
    assert set(made.dense) == {name for name in header if "norm" in name}
    assert made.schemes == {"q4 (4 bits, group 32)": sum(name.endswith(".scales") for name in header)}


@pytest.mark.parametrize("shard_bytes", [200_000, 1])
def test_shards_hold_the_same_model(make: Make, shard_bytes: int) -> None:
    whole, sharded = make("q8").folder, make("q8", name="sharded", shard_bytes=shard_bytes).folder
    files = sorted(sharded.glob("model-*-of-*.safetensors"))
    assert len(files) > 2
    assert not (sharded / "model.safetensors").exists()
    if shard_bytes > 1:
        assert all(path.stat().st_size < shard_bytes + 10_000 for path in files)
    one, other = (Checkpoint.resolve(folder).weights for folder in (whole, sharded))
    first, second = one.load(), other.load()
    tokens = mx.array(np.random.default_rng(0).integers(0, 64, (1, 5, 3)))
    hidden = [lm.temporal(tokens, lm.new_state()) for lm in (first, second)]
    assert mx.array_equal(hidden[0], hidden[1])
    assert (make("bf16", sharded, "again").folder / "model.safetensors").read_bytes() == (
        make("bf16", whole, "dense").folder / "model.safetensors"
    ).read_bytes()


def test_what_could_not_be_loaded_is_not_handed_over(small: Path, tmp_path: Path) -> None:
    found = replace(Checkpoint.resolve(small), settings=dict(MOSHI_7B))
    with pytest.raises(ConfigError, match=r"'num_layers' is 32; it needs 32 layers, but .* has 1$"):
        make_checkpoint(found, tmp_path / "made", RECIPES["q4"], progress=False)
    assert names(tmp_path) == []


def test_an_empty_folder_may_be_there_already(make: Make, tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    assert (make().folder / "config.json").is_file()
    assert names(tmp_path) == ["made"]


def test_what_exists_is_replaced_only_by_force_and_only_if_it_is_a_model(make: Make, tmp_path: Path) -> None:
    made = make("q4").folder
    with pytest.raises(CheckpointError, match=r"made exists; choose another place, or --force to replace it"):
        make("q8")
    assert Checkpoint.resolve(made).scheme == Scheme(4, 32)
    make("q8", force=True)
    assert Checkpoint.resolve(made).scheme == Scheme(8, 64)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letters.txt").write_text("dear")
    with pytest.raises(CheckpointError, match=r"home is not a model folder \(no config\.json\); --force replaces"):
        make("q8", name="home", force=True)
    with pytest.raises(CheckpointError, match=r"letters\.txt exists and is no folder"):
        make("q8", name="home/letters.txt", force=True)
    (tmp_path / "link").symlink_to(made)
    with pytest.raises(CheckpointError, match=r"link exists and is no folder"):
        check_free(tmp_path / "link", force=True)
    assert names(tmp_path) == ["home", "link", "made"]


def test_force_never_replaces_what_is_being_read(make: Make, small: Path, tmp_path: Path) -> None:
    source = shutil.copytree(small, tmp_path / "made")
    with pytest.raises(CheckpointError, match=r"model\.safetensors lies in .*made, which would be replaced"):
        make("q4", source, force=True)
    outer = tmp_path / "outer"
    source = shutil.copytree(small, outer / "inner")
    (outer / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"lies in .*outer, which would be replaced"):
        make("q4", source, "outer", force=True)
    assert (source / "model.safetensors").is_file()


def test_what_is_quantized_is_quantized_again_only_if_asked(make: Make) -> None:
    source = make("q4").folder
    with pytest.raises(
        QuantizationError, match=r"made is already quantized, q4 .*: start from the bfloat16 model"
    ):
        make("q8", source, "again")
    assert Checkpoint.resolve(make("q8", source, "again", requantize=True).folder).scheme == Scheme(8, 64)
    assert Checkpoint.resolve(make("bf16", source, "dense").folder).scheme is None


def test_too_little_room_is_noticed_before_anything_is_written(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1 << 20))
    with pytest.raises(CheckpointError, match=r"made needs 0\.\d+ GB, but only 0\.00 GB are free there"):
        make("q4")
    assert names(tmp_path) == []


def test_the_recipe_of_a_bad_group_writes_nothing(make: Make, tmp_path: Path) -> None:
    config = {**SMALL, "dim": 48, "depformer_dim": 48, "depformer_dim_feedforward": 72, "hidden_scale": 1.5}
    source = write_random_checkpoint(tmp_path / "odd", config, dtype="bfloat16")
    with pytest.raises(QuantizationError, match=r"groups of 128 do not divide any layer of this model"):
        make(Recipe("wide", Scheme(4, 128)), source)
    assert names(tmp_path) == ["odd"]


PROGRAM = """
import resource, sys
from pathlib import Path
from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.errors import MoshiError
from moshi_mlx.quantize.writer import make_checkpoint
from moshi_mlx.weights.quantization import RECIPES

source, target, limit = sys.argv[1:]
if int(limit):
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))

def wait_halfway(share):
    if not int(limit) and share > 0.5:
        print("half", flush=True)
        sys.stdin.read()

try:
    found = Checkpoint.resolve(source)
    make_checkpoint(found, Path(target), RECIPES["q8"], force=True, progress=wait_halfway)
except MoshiError as error:
    print(error)
"""


def run(source: Path, target: Path, limit: int = 0) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM, str(source), str(target), str(limit)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def kill_halfway(source: Path, target: Path, signal_: int) -> int:
    with run(source, target) as process:
        assert process.stdout
        assert process.stdout.readline() == "half\n"
        process.send_signal(signal_)
        return process.wait(60)


def test_a_kill_leaves_nothing_under_the_name_and_the_next_run_cleans_up(
    make: Make, tiny_folder: Path, tmp_path: Path
) -> None:
    assert kill_halfway(tiny_folder, tmp_path / "made", signal.SIGKILL) == -signal.SIGKILL
    (left,) = names(tmp_path)
    assert left.startswith(".made.")
    assert left.endswith(".part")
    make("q8", tiny_folder)
    assert names(tmp_path) == ["made"]


def test_a_kill_while_replacing_keeps_what_was_there(make: Make, tiny_folder: Path, tmp_path: Path) -> None:
    made = make("q4", tiny_folder).folder
    assert kill_halfway(tiny_folder, made, signal.SIGKILL) == -signal.SIGKILL
    assert Checkpoint.resolve(made).scheme == Scheme(4, 32)


def test_an_interruption_leaves_nothing_at_all(tiny_folder: Path, tmp_path: Path) -> None:
    assert kill_halfway(tiny_folder, tmp_path / "made", signal.SIGINT) != 0
    assert names(tmp_path) == []


def test_the_work_of_a_run_that_still_runs_is_not_cleaned_up(make: Make, tmp_path: Path) -> None:
    (tmp_path / f".made.{os.getppid()}.part").mkdir()
    (tmp_path / ".made.999999999.old").mkdir()  # the only copy: it is put back
    (tmp_path / ".other.999999999.part").mkdir()
    make("q4")
    assert names(tmp_path) == [f".made.{os.getppid()}.part", ".other.999999999.part", "made"]
    make("q4", force=True)
    assert names(tmp_path) == [f".made.{os.getppid()}.part", ".other.999999999.part", "made"]


def test_a_disk_that_is_full_halfway_leaves_nothing(tiny_folder: Path, tmp_path: Path) -> None:
    with run(tiny_folder, tmp_path / "made", 600_000) as process:
        out, _ = process.communicate()
    assert out.endswith("model.safetensors: File too large\n")
    assert "cannot write" in out
    assert out.count("\n") == 1
    assert names(tmp_path) == []


def spoil(folder: Path, how: str) -> None:
    file = folder / "model.safetensors"
    if how == "truncated":
        os.truncate(file, file.stat().st_size // 2)
    elif how == "empty":
        file.write_bytes(b"")
    elif how == "web page":
        file.write_text("<!DOCTYPE html><html>Please log in</html>")
    elif how == "another model":
        mx.save_safetensors(str(file), {"model.embed_tokens.weight": mx.zeros((4, 4))})
    elif how == "codec":
        shutil.copy(folder / "mimi.safetensors", file)
    elif how == "gone":
        file.unlink()
    elif how == "shape":
        arrays = mx.load(str(file))
        assert isinstance(arrays, dict)
        arrays["text_linear.weight"] = mx.zeros((256, 64))
        mx.eval(arrays)
        mx.save_safetensors(str(file), arrays)
    elif how == "tokenizer":
        (folder / "tokenizer.model").write_bytes(b"no tokenizer")
    elif how == "config":
        (folder / "config.json").write_text("{")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("truncated", r"model\.safetensors is cut short: [\d,]+ bytes, [\d,]+ expected"),
        ("empty", r"model\.safetensors is empty"),
        ("web page", r"model\.safetensors is a web page"),
        ("another model", r"model\.safetensors is not a Moshi model: its tensors are model\.embed_tokens"),
        ("codec", r"holds the Mimi codec, not the language model"),
        ("gone", r"has no file model\.safetensors"),
        ("shape", r"text_linear\.weight has shape \[256, 64\], \[256, 128\] expected"),
        ("tokenizer", r"tokenizer\.model"),
        ("config", r"config\.json is not JSON"),
    ],
)
def test_damaged_and_foreign_sources_are_refused_in_one_line(
    make: Make, small: Path, tmp_path: Path, how: str, message: str
) -> None:
    source = shutil.copytree(small, tmp_path / "source")
    spoil(source, how)
    with pytest.raises((CheckpointError, ConfigError), match=message) as caught:
        make("q4", source)
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == ["source"]


def test_a_single_file_is_a_source_where_the_rest_lies_beside_it(make: Make, small: Path, tmp_path: Path) -> None:
    source = shutil.copytree(small, tmp_path / "source")
    (source / "model.safetensors").rename(source / "step 7.safetensors")
    made = make("q4", source / "step 7.safetensors")
    assert (made.folder / "model.safetensors").read_bytes() == (
        make("q4", name="expected").folder / "model.safetensors"
    ).read_bytes()


def test_files_of_the_same_name_do_not_meet(make: Make, tmp_path: Path) -> None:
    source = write_random_checkpoint(tmp_path / "source", TINY)
    (source / "mimi").mkdir()
    (source / "mimi.safetensors").rename(source / "mimi" / "model.safetensors")
    settings = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**settings, "mimi_name": "mimi/model.safetensors"}))
    made = make("q4", source).folder
    assert Checkpoint.resolve(made).mimi_weights.read_bytes() == (source / "mimi/model.safetensors").read_bytes()
