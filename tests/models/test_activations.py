"""Activations made of products against their formulas in float64."""

import math

import mlx.core as mx
import numpy as np

from moshi_mlx.models.activations import elu, gelu

NEAR_ZERO = np.logspace(-30, 2, 5001, dtype=np.float32)
X = np.concatenate([np.linspace(-20, 20, 100_001, dtype=np.float32), NEAR_ZERO, -NEAR_ZERO])


def test_elu_is_as_precise_as_its_type() -> None:
    exact = np.where(X > 0, X, np.expm1(X.astype(np.float64)))
    np.testing.assert_allclose(np.array(elu(mx.array(X))), exact, rtol=5e-7, atol=0)


def test_gelu_is_as_precise_as_its_type() -> None:
    erf = np.array([math.erf(x / math.sqrt(2)) for x in X.tolist()])
    exact = X.astype(np.float64) * 0.5 * (1 + erf)
    made = np.array(gelu(mx.array(X)))
    assert (np.abs(made - exact) <= 4e-7 * np.maximum(np.abs(X), np.finfo(np.float32).tiny)).all()


def test_what_is_not_float32_goes_by_the_formula() -> None:
    x = mx.array(X[::100]).astype(mx.bfloat16)
    exact = np.array(gelu(x.astype(mx.float32)))
    np.testing.assert_allclose(np.array(gelu(x).astype(mx.float32)), exact, rtol=2**-6, atol=1e-2)
