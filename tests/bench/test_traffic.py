"""Bytes per frame, against those of real arrays and of the published shape."""

import mlx.core as mx
import pytest

from moshi_mlx.bench.shapes import KINDS, random_lm
from moshi_mlx.bench.traffic import parameter_bytes, traffic
from moshi_mlx.checkpoint.random_checkpoint import TINY
from moshi_mlx.models.config import MOSHI_7B, LmConfig
from moshi_mlx.weights.lm_weights import parameter_bytes as loaded_bytes
from moshi_mlx.weights.lm_weights import parameters

TINY_LM = LmConfig.from_dict(TINY)


@pytest.mark.parametrize(("kind", "gigabytes"), [("bf16", 14.75), ("q8", 7.84), ("q4", 4.61), ("mxfp4", 3.92)])
def test_moshi_7b_reads_what_its_parameters_say(kind: str, gigabytes: float) -> None:
    assert traffic(LmConfig.from_dict(MOSHI_7B), kind, 0).total / 1e9 == pytest.approx(gigabytes, abs=0.005)


@pytest.mark.parametrize("kind", KINDS)
def test_random_weights_are_as_large_as_computed(kind: str) -> None:
    lm = random_lm(TINY_LM, kind)
    assert loaded_bytes(lm) == parameter_bytes(TINY_LM, kind)
    assert all(mx.isfinite(array).all() for array in parameters(lm).values() if array.dtype == mx.bfloat16)


def test_of_a_table_only_the_rows_looked_up_are_read() -> None:
    rows = 256 + 1 + 16 * (64 + 1) + (256 + 1) + 7 * (64 + 1)
    read = 1 + 16 + 8
    shared_norms = 7 * 2 * 2  # seven more steps read the norms of the first
    left_out = parameter_bytes(TINY_LM, "f32") - traffic(TINY_LM, "f32", 0).weights
    assert left_out == (rows - read - shared_norms) * 64 * 4


def test_conversations_share_the_weights_but_not_the_window() -> None:
    one, four = traffic(TINY_LM, "q4", 50), traffic(TINY_LM, "q4", 50, batch=4)
    assert four.keys_values == 4 * one.keys_values
    assert four.weights < 1.05 * one.weights
