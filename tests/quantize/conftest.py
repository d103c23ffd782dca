"""A checkpoint that is quick to convert, and converting it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.checkpoint.random_checkpoint import TINY, write_random_checkpoint
from moshi_mlx.quantize.card import Made
from moshi_mlx.quantize.writer import make_checkpoint
from moshi_mlx.weights.quantization import Recipe, parse_recipe

SMALL = {
    **TINY, "dim": 128, "num_layers": 1, "n_q": 4, "dep_q": 2, "delays": [0, 0, 1, 0, 1],
    "depformer_num_layers": 1, "model_id": {"sig": "a0b1c2d3", "epoch": 7},
}  # fmt: skip
"""Widths 128 and 384, and 64 and 128 in the depth transformer."""


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bfloat16 model in PyTorch's layout."""
    return write_random_checkpoint(tmp_path_factory.mktemp("small") / "small", SMALL, dtype="bfloat16")


@pytest.fixture
def make(small: Path, tmp_path: Path) -> Callable[..., Made]:
    """Make tmp_path/<name> of a folder, the small one unless given."""

    def call(recipe: str | Recipe = "q4", source: Path = small, name: str = "made", **options) -> Made:
        checkpoint = Checkpoint.resolve(source)
        return make_checkpoint(checkpoint, tmp_path / name, parse_recipe(recipe), progress=False, **options)

    return call
