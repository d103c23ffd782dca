"""What is trained: every parameter once, in float32, under its name in PyTorch's memory.

The model has a copy in its own precision: in one place or, of weights that depth steps share, in several.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_unflatten

from moshi_mlx.models.layers import parameters
from moshi_mlx.models.lm import Lm
from moshi_mlx.weights.key_map import torch_origin

LORA_A, LORA_B = ".lora_A.weight", ".lora_B.weight"
_LEAVES = {LORA_A: "lora_a", LORA_B: "lora_b"}  # of mlx-lm's layer, whose factors are transposed


class _Everything(tuple[str, ...]):
    def __contains__(self, name: object) -> bool:
        return True


IN_MEMORY = _Everything()
"""For `torch_origin`: names as in PyTorch's memory, where each depth step's projections stand alone."""


@dataclass(frozen=True)
class Trained:
    """The parameters that are trained.

    places: name in PyTorch's memory -> where the model holds it. start: its value when training begins, float32;
    factors of adapters as mlx-lm holds them, (inputs, rank) and (rank, outputs).
    """

    places: Mapping[str, tuple[str, ...]]
    start: Mapping[str, mx.array]
    dtypes: Mapping[str, mx.Dtype]

    @property
    def count(self) -> int:
        """How many numbers are trained."""
        return sum(array.size for array in self.start.values())

    def put(self, lm: Lm, values: Mapping[str, mx.array]) -> None:
        """Give the model values for all trained parameters."""
        held = {name: value.astype(self.dtypes[name]) for name, value in values.items()}
        lm.update(tree_unflatten([(place, held[name]) for name, where in self.places.items() for place in where]))


def train_all(lm: Lm) -> Trained:
    """Let a dense model's parameters be trained; of one that speaks not its extra heads: its loss asks none."""
    found = parameters(lm)
    if lm.config.depth:
        found = {name: array for name, array in found.items() if not name.startswith("extra_heads.")}
    places = _by_torch_name(lm, found)
    lm.unfreeze()
    first = {name: found[where[0]] for name, where in places.items()}
    dtypes = {name: array.dtype for name, array in first.items()}
    return Trained(places, {name: array.astype(mx.float32) for name, array in first.items()}, dtypes)


def train_adapter(lm: Lm, rank: int, scaling: float, seed: int = 0) -> Trained:
    """Give every linear layer of a model a low-rank adapter, and let only those be trained.

    Layers that depth steps share have one adapter. The first factor is drawn, the second is zero, so that nothing
    changes yet. Source: moshi/modules/lora.py; moshi-finetune, finetune/wrapped_model.py.
    """
    from mlx_lm.tuner.lora import LoRALinear

    lm.freeze()
    layers: dict[str, Any] = {
        path: layer for path, layer in lm.named_modules() if isinstance(layer, nn.Linear | nn.QuantizedLinear)
    }
    places = _by_torch_name(lm, [f"{path}.weight" for path in layers])
    dtype, key = lm.activation_dtype, mx.random.key(seed)
    where, start = {}, {}
    for name, held in places.items():
        adapters = [held_in.removesuffix(".weight") for held_in in held]
        made = {path: LoRALinear.from_base(layers[path], rank, scale=scaling) for path in adapters}
        lm.update_modules(tree_unflatten(list(made.items())))
        for layer in made.values():
            layer.linear.freeze()
        inputs, outputs = made[adapters[0]].lora_a.shape[0], made[adapters[0]].lora_b.shape[1]
        key, own = mx.random.split(key)
        bound = 1 / math.sqrt(inputs)
        values = mx.random.uniform(-bound, bound, (inputs, rank), key=own), mx.zeros((rank, outputs))
        module = name.removesuffix(".weight")
        for (suffix, leaf), value in zip(_LEAVES.items(), values, strict=True):
            where[module + suffix] = tuple(f"{path}.{leaf}" for path in adapters)
            start[module + suffix] = value
    return Trained(where, start, dict.fromkeys(start, dtype))


def _by_torch_name(lm: Lm, names: Mapping[str, mx.array] | list[str]) -> dict[str, tuple[str, ...]]:
    places: dict[str, list[str]] = {}
    for name in names:
        places.setdefault(torch_origin(name, lm.config, IN_MEMORY).key, []).append(name)
    return {key: tuple(where) for key, where in places.items()}
