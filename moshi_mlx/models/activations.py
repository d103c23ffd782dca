"""Mimi's activations, ELU and GELU, each as a GPU and as a CPU computes it quickly.

MLX's CPU backend works exponentials and erf out one number at a time: they were three quarters of a frame's time
in Nano's codec. There it is given products and sums instead, of which a core does several at once. Terms that do
not need each other are added up side by side, or a core would wait for each in turn.
"""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn

from moshi_mlx.models.layers import compiled


def use_products(x: mx.array) -> bool:
    """Whether products are quicker here than an exponential, and precise enough in the type of x."""
    return mx.default_device() == mx.cpu and x.dtype == mx.float32


def elu(x: mx.array) -> mx.array:
    """Return x where it is positive, e^x - 1 elsewhere, to float32's precision."""
    if use_products(x):
        return _elu_by_products(x, mx.maximum(x, -_ELU_FLAT))
    return _elu_by_its_formula(x)


def gelu(x: mx.array) -> mx.array:
    """Return x times the share of a normal distribution that is below x, to float32's precision (no tanh)."""
    if use_products(x):
        return _gelu_by_products(x, mx.minimum(mx.maximum(x, -_ERF_FLAT), _ERF_FLAT))
    return nn.gelu(x)


def _its_formula(x: mx.array) -> mx.array:
    return mx.maximum(x, 0) + mx.expm1(mx.minimum(x, 0))


_elu_by_its_formula = compiled(_its_formula, shapeless=True)

_ELU_FLAT = 17.0  # e^-17 is a third of float32's step at 1
_ELU_DOUBLINGS = 4
# Of (e^z - 1) / z for -17 / 2^4 <= z <= 0, to 1e-7: interpolated at Chebyshev's points.
_ELU_POLYNOMIAL = (1.0, 0.49999973, 0.16666241, 0.041642223, 0.008265863, 0.0012916119, 0.00012583812)


@compiled  # for each shape: without shapes it would be cut into twice as many kernels
def _elu_by_products(x: mx.array, bounded: mx.array) -> mx.array:
    """As `elu`; bounded: x, but at least -17. Where x is positive, z is 0: e^z - 1 is added to x in either case.

    If e is e^z - 1, then e (e + 2) is e^2z - 1, and no less precise: with it, a few terms are enough.
    """
    c = _ELU_POLYNOMIAL
    z = (bounded - abs(bounded)) * (0.5 / 2**_ELU_DOUBLINGS)
    square = z * z
    low, middle, high = c[0] + c[1] * z, c[2] + c[3] * z, c[4] + c[5] * z + c[6] * square
    e = (low + (middle + high * square) * square) * z
    for _ in range(_ELU_DOUBLINGS):
        e = e * (e + 2.0)
    return (x + abs(x)) * 0.5 + e


_ERF_FLAT = 5.6  # from there on less than float32's step of a normal distribution is left
# erf(x / sqrt 2) is x P(x²) / Q(x²) for |x| <= 5.6, to 2e-8: least squares, reweighted until no error stands out.
_ERF_P = (0.797884443, 0.0687528684, 0.00941455391, 0.000347706927, 1.27129953e-05, 4.42895491e-08)
_ERF_Q = (1.0, 0.252834655, 0.028940268, 0.00191299477, 7.51024907e-05, 1.18019338e-06)


@compiled
def _gelu_by_products(x: mx.array, bounded: mx.array) -> mx.array:
    """As `gelu`; bounded: x, but within 5.6 of 0."""
    s = bounded * bounded
    square = s * s

    def at_s(c: tuple[float, ...]) -> mx.array:
        return (c[0] + c[1] * s) + ((c[2] + c[3] * s) + (c[4] + c[5] * s) * square) * square

    return (0.5 * x) * (1.0 + bounded * at_s(_ERF_P) / at_s(_ERF_Q))
