"""The two norms of the family."""

import mlx.core as mx
import mlx.nn as nn


class RMSNorm(nn.Module):
    """`rms_norm_f32`: root-mean-square norm computed in float32, whatever the input's type.

    Source: moshi/modules/transformer.py `RMSNorm` (eps 1e-8, weight stored as `alpha`).
    """

    def __init__(self, dim: int, eps: float = 1e-8) -> None:
        super().__init__()
        self.weight = mx.ones((dim,))
        self.eps = eps

    def __call__(self, x: mx.array) -> mx.array:
        return mx.fast.rms_norm(x, self.weight, self.eps)  # accumulates in float32 by itself


def make_norm(kind: str, dim: int) -> nn.Module:
    """The norm a config names: "rms_norm_f32" or "layer_norm" (eps 1e-5)."""
    return RMSNorm(dim) if kind == "rms_norm_f32" else nn.LayerNorm(dim, eps=1e-5)
