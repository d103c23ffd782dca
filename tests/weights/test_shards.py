"""Weights in several files."""

import json
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.checkpoint.random_checkpoint import write_random_checkpoint
from moshi_mlx.errors import CheckpointError
from moshi_mlx.weights.safetensors import TensorInfo, read_rows, read_tensors, shard_names, write_tensors
from tests.hub_stub import fill_cache

LAYOUT = {name: TensorInfo("F32", (count,)) for name, count in (("a", 4), ("b", 3), ("c", 20), ("d", 1), ("e", 2))}


def values() -> dict[str, np.ndarray]:
    return {name: np.full(one.shape, number, np.float32) for number, (name, one) in enumerate(LAYOUT.items())}


def test_tensors_are_read_back_from_as_many_files_as_they_were_written_to(tmp_path: Path) -> None:
    for limit, shards in ((None, 1), (1000, 1), (32, 3), (1, 5)):
        folder = tmp_path / str(limit)
        folder.mkdir()
        name = write_tensors(folder, LAYOUT, iter(values().values()), limit)
        assert len(list(folder.glob("*.safetensors"))) == shards
        tensors = read_tensors(folder / name)
        assert tensors.keys() == LAYOUT.keys()
        for key, array in values().items():
            assert read_rows(tensors[key]).tolist() == array.tolist()


def test_an_index_is_as_transformers_and_mlx_lm_write_it(tmp_path: Path) -> None:
    name = write_tensors(tmp_path, LAYOUT, iter(values().values()), 32)
    assert name == "model.safetensors.index.json"
    assert json.loads((tmp_path / name).read_text()) == {
        "metadata": {"total_size": 120},
        "weight_map": {
            "a": "model-00001-of-00003.safetensors",
            "b": "model-00001-of-00003.safetensors",
            "c": "model-00002-of-00003.safetensors",
            "d": "model-00003-of-00003.safetensors",
            "e": "model-00003-of-00003.safetensors",
        },
    }
    assert shard_names(tmp_path / name) == [f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "is not a JSON object"),
        ("{}", "is not an index of shards"),
        ('{"weight_map": {}}', "is not an index of shards"),
        ('{"weight_map": {"a": 1}}', "is not an index of shards"),
        ('{"weight_map": {"a": "../../etc/passwd"}}', "is not an index of shards"),
        ('{"weight_map": {"a": "none.safetensors"}}', r"cannot read .*none\.safetensors: No such file"),
        ('{"weight_map": {"z": "model-00001-of-00003.safetensors"}}', r"lists z, which its shards lack"),
    ],
)
def test_an_index_that_is_wrong_is_refused(tmp_path: Path, content: str, message: str) -> None:
    name = write_tensors(tmp_path, LAYOUT, iter(values().values()), 32)
    (tmp_path / name).write_text(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        read_tensors(tmp_path / name)
    assert "\n" not in str(caught.value)


def shard(folder: Path, limit: int = 100_000) -> list[Path]:
    """Turn a folder's one weights file into shards that its config does not name."""
    file = folder / "model.safetensors"
    tensors = read_tensors(file)
    name = write_tensors(folder, tensors, (read_rows(tensor) for tensor in tensors.values()), limit)
    file.unlink()
    settings = json.loads((folder / "config.json").read_text())
    del settings["moshi_name"]
    (folder / "config.json").write_text(json.dumps(settings))
    return [folder / name, *sorted(folder.glob("model-*"))]


@pytest.mark.parametrize("layout", ["torch", "mlx"])
def test_a_model_in_shards_loads_as_in_one_file(tmp_path: Path, layout: str) -> None:
    folder = write_random_checkpoint(tmp_path / "model", layout=layout)
    tokens = mx.array(np.random.default_rng(0).integers(0, 64, (1, 17, 3)))
    hidden = []
    for _ in range(2):
        lm = Checkpoint.resolve(folder).load_lm()
        hidden.append(lm.temporal(tokens, lm.new_state()))
        mx.eval(hidden)
        if len(hidden) == 1:
            assert len(shard(folder)) > 5
    assert mx.array_equal(hidden[0], hidden[1])
    by_file = Checkpoint.resolve(folder / "model.safetensors.index.json")
    assert by_file.weights.tensors.keys() == Checkpoint.resolve(folder).weights.tensors.keys()


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    folder = write_random_checkpoint(tmp_path / "model")
    lost = shard(folder)[2]
    lost.unlink()
    with pytest.raises(CheckpointError, match=rf"has no file {lost.name}"):
        Checkpoint.resolve(folder)


def test_the_shards_of_a_hub_repository_are_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    folder = write_random_checkpoint(tmp_path / "model")
    shard(folder)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    files = {path.name: path for path in folder.iterdir()}
    snapshot = fill_cache(tmp_path / "cache", "me/sharded", files)
    for missing in ("model.safetensors", "model.q4.safetensors", "model.q8.safetensors"):
        no_exist = snapshot.parents[1] / ".no_exist" / snapshot.name
        no_exist.mkdir(parents=True, exist_ok=True)
        (no_exist / missing).touch()
    found = Checkpoint.resolve("me/sharded", offline=True)
    assert found.lm_weights.name == "model.safetensors.index.json"
    lost = sorted(snapshot.glob("model-0000*"))[1]
    lost.unlink()
    with pytest.raises(
        CheckpointError, match=r"model-0000\d-of-\d+\.safetensors of me/sharded.* is not in the cache"
    ):
        Checkpoint.resolve("me/sharded", offline=True)
