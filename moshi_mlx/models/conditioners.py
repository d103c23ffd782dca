"""Conditioners: named values, each a learned vector that is added to every position."""

from __future__ import annotations

from collections.abc import Mapping

import mlx.core as mx
import mlx.nn as nn

from moshi_mlx.models.conditioner_config import LutConfig
from moshi_mlx.models.layers import Embedding, Linear


class ConditionProvider(nn.Module):
    """The conditioners of a model, whose vectors are added up."""

    def __init__(self, conditioners: Mapping[str, LutConfig], dim: int) -> None:
        super().__init__()
        self.conditioners = {name: LutConditioner(lut, dim) for name, lut in conditioners.items()}

    def __call__(self, values: Mapping[str, str | None]) -> mx.array:
        """values: name -> value, None for the learned padding. Returns (1, 1, dim) float32."""
        vectors = [conditioner(values[name]) for name, conditioner in self.conditioners.items()]
        return mx.sum(mx.stack(vectors), axis=0)


class LutConditioner(nn.Module):
    """A learned vector for each value. Source: moshi/conditioners/text.py `LUTConditioner`."""

    def __init__(self, lut: LutConfig, dim: int) -> None:
        super().__init__()
        self.embed = Embedding(lut.n_bins + 1, lut.dim)
        self.output_proj = Linear(lut.dim, dim)
        self.learnt_padding = mx.zeros((1, 1, dim))
        self._values = lut.possible_values

    def __call__(self, value: str | None) -> mx.array:
        """value: one of its own, or None for the learned padding. Returns (1, 1, dim) float32."""
        if value is None:
            return self.learnt_padding.astype(mx.float32)
        index = mx.array([[self._values.index(value)]])
        return self.output_proj(self.embed(index, mx.float32)).astype(mx.float32)
