"""Levels chosen with the inputs in mind, in MLX's own format."""

import mlx.core as mx
import numpy as np
import pytest

from benchmarks.recipes import calibrate
from moshi_mlx.checkpoint.random_checkpoint import TINY
from moshi_mlx.models.config import LmConfig
from moshi_mlx.models.layers import parameter_bytes
from moshi_mlx.models.lm import Lm
from moshi_mlx.quality.budget import importance
from moshi_mlx.quality.conversations import Conversation
from moshi_mlx.quality.predictions import predict
from moshi_mlx.quantize.levels import calibrated, packed
from moshi_mlx.quantize.quantizer import quantize_lm
from moshi_mlx.weights.quantization import Scheme

pytestmark = pytest.mark.slow

BITS = (2, 3, 4, 5, 6, 8)


def weights(dtype: mx.Dtype = mx.bfloat16) -> mx.array:
    return mx.array(np.random.RandomState(0).standard_normal((6, 256)).astype(np.float32)).astype(dtype)


def values(parts: tuple[mx.array, ...], scheme: Scheme) -> np.ndarray:
    packed, scales, biases = parts
    wide = [one.astype(mx.float32) for one in (scales, biases)]
    return np.array(mx.dequantize(packed, *wide, group_size=scheme.group_size, bits=scheme.bits))


@pytest.fixture
def lm() -> Lm:
    mx.random.seed(0)
    return Lm(LmConfig.from_dict({**TINY, "depformer_weights_per_step_schedule": [0, 1, 2, 2, 2, 2, 2, 2]}))


@pytest.fixture
def conversation() -> Conversation:
    random = np.random.RandomState(0)
    return Conversation(random.randint(0, 64, (12, 8)), random.randint(0, 64, (12, 9)))


@pytest.mark.parametrize("bits", BITS)
def test_codes_are_packed_as_mlx_packs_them(bits: int) -> None:
    """A row that holds every level in order is a line, which quantization leaves as it is."""
    codes = np.random.RandomState(0).randint(0, 2**bits, (3, 64))
    codes[:, 0], codes[:, 1] = 0, 2**bits - 1
    theirs, scales, biases = mx.quantize(mx.array(codes.astype(np.float32)), 64, bits)
    np.testing.assert_allclose(values((theirs, scales, biases), Scheme(bits, 64)), codes, atol=1e-4)
    # MLX may count from the top: its scale is negative then.
    downwards = np.array(scales) < 0
    np.testing.assert_array_equal(np.array(theirs), packed(np.where(downwards, 2**bits - 1 - codes, codes), bits))


@pytest.mark.parametrize("group_size", [32, 64, 128])
@pytest.mark.parametrize("bits", BITS)
def test_errors_that_matter_are_smaller_than_mlx_leaves_them(bits: int, group_size: int) -> None:
    scheme, weight = Scheme(bits, group_size), weights()
    matter = np.random.RandomState(1).rand(256) ** 4
    found, theirs = calibrated(weight, scheme, matter), mx.quantize(weight, group_size, bits)
    assert [(part.shape, part.dtype) for part in found] == [(part.shape, part.dtype) for part in theirs]
    exact = np.array(weight.astype(mx.float32))
    ours, mlx = (
        (matter * (values(parts, scheme) - exact) ** 2).reshape(-1, group_size).sum(axis=-1)
        for parts in (found, theirs)
    )
    assert (ours <= mlx * (1 + 1e-4)).all()  # in every group
    assert ours.sum() < 0.9 * mlx.sum()


@pytest.mark.parametrize("weight", [mx.zeros((2, 64)), mx.full((2, 64), -0.75)], ids=["zero", "constant"])
def test_groups_without_any_spread_stay_exact(weight: mx.array) -> None:
    found = calibrated(weight, Scheme(4, 32), np.zeros(64))
    np.testing.assert_array_equal(values(found, Scheme(4, 32)), np.array(weight))


def test_arrays_larger_than_are_worked_on_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    scheme, matter = Scheme(4, 64), np.random.RandomState(1).rand(256)
    whole = calibrated(weights(), scheme, matter)
    monkeypatch.setattr("moshi_mlx.quantize.levels.AT_ONCE", 512)
    for one, other in zip(whole, calibrated(weights(), scheme, matter), strict=True):
        assert mx.array_equal(one, other)


def test_importance_is_the_mean_square_of_what_comes_in(lm: Lm, conversation: Conversation) -> None:
    before = dict(lm.named_modules())
    found = importance(lm, [conversation, conversation])
    hidden = next(iter(predict(lm, conversation))).hidden
    np.testing.assert_allclose(found["text_linear"], (hidden**2).mean(axis=0), rtol=1e-5)
    assert {path: id(layer) for path, layer in lm.named_modules()} == {p: id(layer) for p, layer in before.items()}
    shared = "depformer.slices.{}.linear_in"
    assert found[shared.format(2)] is not found[shared.format(1)]
    np.testing.assert_array_equal(found[shared.format(2)], found[shared.format(0)])  # the same hidden states


def test_a_calibrated_model_is_stored_alike_and_closer(lm: Lm, conversation: Conversation) -> None:
    mx.eval(lm.parameters())
    for step in (3, 4, 5, 6, 7):
        for name in ("linear_in", "transformer"):
            lm.depformer.slices[step][name] = lm.depformer.slices[2][name]
    mx.random.seed(0)
    quantized = Lm(lm.config)
    quantized.update(lm.parameters())
    quantize_lm(quantized, Scheme(3, 64))
    size = parameter_bytes(quantized)
    exact = next(iter(predict(lm, conversation))).hidden
    rounded = next(iter(predict(quantized, conversation))).hidden
    calibrate(quantized, lm, importance(lm, [conversation]))
    again = next(iter(predict(quantized, conversation))).hidden
    assert parameter_bytes(quantized) == size
    assert np.square(again - exact).mean() < np.square(rounded - exact).mean()
    np.testing.assert_array_equal(np.array(quantized.text_emb(mx.array([-1]), mx.float32)), 0)
