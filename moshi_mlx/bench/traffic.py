"""Bytes that one frame must read: all weights, but of embeddings only rows, and the window of past positions."""

from __future__ import annotations

from dataclasses import dataclass

import mlx.core as mx

from moshi_mlx.bench.shapes import skeleton
from moshi_mlx.models.config import LmConfig
from moshi_mlx.weights.key_map import mlx_source
from moshi_mlx.weights.lm_weights import parameters, weight_bytes


@dataclass(frozen=True)
class Traffic:
    """Bytes read per frame."""

    weights: int
    keys_values: int

    @property
    def total(self) -> int:
        return self.weights + self.keys_values


def traffic(config: LmConfig, kind: str, context: int, batch: int = 1) -> Traffic:
    """Bytes per frame of a shape, from the shapes of its arrays; nothing is allocated.

    kind: of the weights, see `shapes.KINDS`. context: past positions in the window.
    Weights are counted as stored on a GPU; keys and values are bfloat16 unless the weights are float32.
    """
    lm = skeleton(config, kind)
    cell = 4 if kind == "f32" else mx.bfloat16.size
    return Traffic(weight_bytes(lm, batch), batch * context * key_value_cells(config) * cell)


def key_value_cells(config: LmConfig) -> int:
    """Numbers that one position keeps in all layers of the temporal transformer."""
    transformer = config.transformer
    return 2 * transformer.num_layers * transformer.num_kv_heads * transformer.head_dim


def parameter_bytes(config: LmConfig, kind: str) -> int:
    """Bytes of all weights, an array that several depth steps share counted once."""
    arrays = {
        mlx_source(name, config).key: array.nbytes for name, array in parameters(skeleton(config, kind)).items()
    }
    return sum(arrays.values())
