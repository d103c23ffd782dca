"""The mean of two models that training makes."""

import shutil
from pathlib import Path

import mlx.core as mx
import pytest

from moshi_mlx.checkpoint import nano
from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.weights.safetensors import read_tensors
from tests.weights_file import rewrite
from training.halfway import halfway
from training.model_folder import MIMI, MODEL, tensors


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """Nano with other weights and another codec."""
    folder = tmp_path / "other"
    shutil.copytree(nano.FOLDER, folder)
    rewrite(folder / MODEL, lambda arrays: arrays.update({name: value + 1 for name, value in arrays.items()}))
    (folder / MIMI).write_bytes(b"other ears")
    return folder


def test_weights_are_the_mean_and_all_else_is_the_firsts(other: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    halfway(nano.FOLDER, other, target)
    made, one, two = (tensors(folder / MODEL) for folder in (target, nano.FOLDER, other))
    assert made.keys() == one.keys()
    for name, value in made.items():
        mean = (one[name] + two[name]) / 2
        assert mx.array_equal(value, mean.astype(mx.bfloat16)), name
    assert {tensor.dtype for tensor in read_tensors(target / MODEL).values()} == {"BF16"}
    assert (target / MIMI).read_bytes() == (nano.FOLDER / MIMI).read_bytes()
    assert Checkpoint.resolve(target, offline=True).lm_config.card == 512


def test_models_of_different_shapes_have_no_mean(other: Path, tmp_path: Path) -> None:
    rewrite(other / MODEL, lambda arrays: arrays.pop("text_emb.weight"))
    with pytest.raises(ValueError, match="have not the same tensors"):
        halfway(nano.FOLDER, other, tmp_path / "target")
    assert not (tmp_path / "target").exists()
