"""Conditioners: named values, each a learned vector added to every position, or vectors that are attended to."""

from __future__ import annotations

from collections.abc import Mapping

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from moshi_mlx.models.conditioner_config import Condition, Conditioners, LutConfig, TensorConfig, Vectors
from moshi_mlx.models.layers import Embedding, Linear
from moshi_mlx.models.rope import sines


class ConditionProvider(nn.Module):
    """The conditioners of a model. Source: moshi/conditioners/base.py `ConditionFuser`."""

    def __init__(self, config: Conditioners, dim: int) -> None:
        super().__init__()
        self.conditioners = {
            name: TensorConditioner(each, dim) if isinstance(each, TensorConfig) else LutConditioner(each, dim)
            for name, each in config.by_name.items()
        }
        self._config, self._dim = config, dim

    def added(self, values: Mapping[str, Condition]) -> mx.array | None:
        """Return the sum of the vectors that are added to every position, (1, 1, dim) float32; None for none.

        values: name -> value, None for the learned padding.
        """
        names = [name for name in self.conditioners if name not in self._config.crossed]
        vectors = [self.conditioners[name](values[name]) for name in names]
        return mx.sum(mx.stack(vectors), axis=0) if vectors else None

    def added_rows(self, rows: mx.array) -> mx.array:
        """As `added`, of a batch, (B, 1, dim) float32. rows: (B, n) int32, see `LmConfig.condition_row`."""
        luts = [each for name, each in self.conditioners.items() if name not in self._config.crossed]
        vectors = [
            lut.rows(rows[:, index, None]) for index, lut in enumerate(luts) if isinstance(lut, LutConditioner)
        ]
        return mx.sum(mx.stack(vectors), axis=0)

    def crossed(self, values: Mapping[str, Condition]) -> mx.array | None:
        """Return what the layers attend to, (1, S, dim) float32; None for nothing. values: as in `added`."""
        if not self._config.crossed:
            return None
        parts = [self.conditioners[name](values[name]) for name in self._config.crossed]
        joined = mx.concatenate(parts, axis=1)
        if self._config.cross_positions:
            places = mx.array(sines(np.arange(joined.shape[1])[None], self._dim))
            joined = joined + self._config.cross_positions * places
        return joined


class LutConditioner(nn.Module):
    """A learned vector for each value. Source: moshi/conditioners/text.py `LUTConditioner`."""

    def __init__(self, lut: LutConfig, dim: int) -> None:
        super().__init__()
        self.embed = Embedding(lut.n_bins + 1, lut.dim)
        self.output_proj = Linear(lut.dim, dim)
        self.learnt_padding = mx.zeros((1, 1, dim))
        self._values = lut.possible_values

    def __call__(self, value: Condition) -> mx.array:
        """value: one of its own, or None for the learned padding. Returns (1, 1, dim) float32."""
        if not isinstance(value, str):
            return self.learnt_padding.astype(mx.float32)
        return self._found(mx.array([[self._values.index(value)]]))

    def rows(self, indices: mx.array) -> mx.array:
        """indices: (B, 1) int32, -1 for the learned padding. Returns (B, 1, dim) float32."""
        padding = self.learnt_padding.astype(mx.float32)
        return mx.where(indices[..., None] >= 0, self._found(indices), padding)

    def _found(self, indices: mx.array) -> mx.array:
        return self.output_proj(self.embed(indices, mx.float32)).astype(mx.float32)


class TensorConditioner(nn.Module):
    """Vectors from outside. Source: moshi/conditioners/tensors.py, base.py `BaseConditioner.forward`."""

    def __init__(self, config: TensorConfig, dim: int) -> None:
        super().__init__()
        self.output_proj = Linear(config.dim, dim)
        self.learnt_padding = mx.zeros((1, 1, dim))

    def __call__(self, value: Condition) -> mx.array:
        """value: `Vectors` of S places, or None for one place of learned padding. Returns (1, S, dim) float32."""
        padding = self.learnt_padding.astype(mx.float32)
        if not isinstance(value, Vectors):
            return padding
        projected = self.output_proj(mx.array(value.values, mx.float32)).astype(mx.float32)
        return mx.where(mx.array(value.known)[:, None], projected, padding)
