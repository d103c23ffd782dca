"""The mean of two models that training makes."""

import shutil
from pathlib import Path

import mlx.core as mx
import pytest

from moshi_mlx.checkpoint import nano
from moshi_mlx.checkpoint.checkpoint import Checkpoint
from training.halfway import halfway
from training.model_folder import MIMI, MODEL


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """Nano with other weights and another codec."""
    folder = tmp_path / "other"
    shutil.copytree(nano.FOLDER, folder)
    mx.save_safetensors(str(folder / MODEL), {name: value + 1 for name, value in weights(nano.FOLDER).items()})
    (folder / MIMI).write_bytes(b"other ears")
    return folder


def weights(folder: Path) -> dict[str, mx.array]:
    stored = mx.load(str(folder / MODEL))
    assert isinstance(stored, dict)
    return stored


def test_weights_are_the_mean_and_all_else_is_the_firsts(other: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    halfway(nano.FOLDER, other, target)
    made, one, two = weights(target), weights(nano.FOLDER), weights(other)
    assert made.keys() == one.keys()
    for name, value in made.items():
        mean = (one[name].astype(mx.float32) + two[name].astype(mx.float32)) / 2
        assert value.dtype == mx.bfloat16
        assert mx.array_equal(value, mean.astype(mx.bfloat16)), name
    assert (target / MIMI).read_bytes() == (nano.FOLDER / MIMI).read_bytes()
    assert Checkpoint.resolve(target, offline=True).lm_config.card == 512


def test_models_of_different_shapes_have_no_mean(other: Path, tmp_path: Path) -> None:
    less = weights(other)
    less.pop("text_emb.weight")
    mx.save_safetensors(str(other / MODEL), less)
    with pytest.raises(ValueError, match="have not the same tensors"):
        halfway(nano.FOLDER, other, tmp_path / "target")
    assert not (tmp_path / "target").exists()
