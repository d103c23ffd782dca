"""What quantizing learns from a model before it writes one: a recipe for a budget, and calibrated levels."""

from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from benchmarks.recipes import calibrate
from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.checkpoint.random_checkpoint import TINY, write_random_checkpoint
from moshi_mlx.errors import QuantizationError
from moshi_mlx.models.layers import parameter_bytes, parameters
from moshi_mlx.quality.budget import Studied, steps_to_study
from moshi_mlx.quality.candidates import apply_recipe
from moshi_mlx.quantize.card import Made
from moshi_mlx.weights.quantization import RECIPES


@pytest.fixture(scope="module")
def recording() -> np.ndarray:
    return (0.1 * np.random.RandomState(0).standard_normal(4 * 1920)).astype(np.float32)


@pytest.fixture(scope="module")
def studied(small: Path, recording: np.ndarray) -> Studied:
    told: list[int] = []
    found = Studied(Checkpoint.resolve(small), [recording], advance=told.append)
    assert sum(told) == steps_to_study([recording])
    return found


def test_a_model_within_a_budget_is_made(studied: Studied, make: Callable[..., Made], small: Path) -> None:
    dense = parameter_bytes(Checkpoint.resolve(small).load_lm())
    budget, told = round(0.29 * dense), []
    recipe = studied.recipe(budget, told.append)
    assert sum(told) == studied.steps
    made = make(recipe)
    loaded = parameter_bytes(Checkpoint.resolve(made.folder).load_lm())
    assert 0.95 * budget < loaded <= budget
    assert len(made.schemes) > 1


def test_calibrated_levels_are_written_as_they_are_made_in_memory(
    studied: Studied, make: Callable[..., Made], small: Path
) -> None:
    importance = studied.importance()
    plain, found = make("q4", name="plain"), make("q4", importance=importance)
    lm = Checkpoint.resolve(small).load_lm()
    apply_recipe(lm, RECIPES["q4"])
    calibrate(lm, Checkpoint.resolve(small).load_lm(), importance)
    loaded = parameters(Checkpoint.resolve(found.folder).load_lm())
    for name, array in parameters(lm).items():
        assert mx.array_equal(array, loaded[name]), name
    uncalibrated = parameters(Checkpoint.resolve(plain.folder).load_lm())
    assert not mx.array_equal(uncalibrated["text_linear.weight"], loaded["text_linear.weight"])


def test_levels_that_are_no_lines_are_left_alone(studied: Studied, make: Callable[..., Made]) -> None:
    plain, found = make("mxfp4", name="plain"), make("mxfp4", importance=studied.importance())
    one, other = (parameters(Checkpoint.resolve(made.folder).load_lm()) for made in (plain, found))
    assert all(mx.array_equal(array, other[name]) for name, array in one.items())


def test_wide_weights_are_studied_as_they_will_be_stored(tmp_path: Path, recording: np.ndarray) -> None:
    config = {**TINY, "dep_q": 1, "n_q": 2, "delays": [0, 0, 0]}
    folder = write_random_checkpoint(tmp_path / "wide", config, dtype="float32")
    lm = Studied(Checkpoint.resolve(folder), [recording]).lm
    assert {array.dtype for array in parameters(lm).values()} == {mx.bfloat16}


def test_quantized_models_are_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    folder = write_random_checkpoint(tmp_path / "q8", layout="mlx", scheme="q8")
    with pytest.raises(QuantizationError, match="already quantized"):
        Studied(Checkpoint.resolve(folder), [])
