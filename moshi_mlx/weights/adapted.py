"""A loaded model with an adapter on it: merged into dense weights, or beside them, where it can be taken away."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_unflatten

from moshi_mlx.errors import CheckpointError
from moshi_mlx.models.layers import parameters
from moshi_mlx.models.lm import Lm
from moshi_mlx.weights.adapter import Adapter


class AdaptedLinear(nn.Module):
    """A layer and the low-rank factors beside it, x (..., inputs) -> (..., outputs).

    Merged into a quantized one, the sum would have to be quantized again, which an adapter's small differences do
    not survive.
    """

    def __init__(self, base: nn.Module, down: mx.array, up: mx.array) -> None:
        super().__init__()
        self.base = base
        self.down, self.up = down, up  # (inputs, rank), (rank, outputs)

    def __call__(self, x: mx.array) -> mx.array:
        return self.base(x) + ((x @ self.down) @ self.up).astype(x.dtype)


class Beside:
    """An adapter beside all layers of a model, whose own weights stay as they are.

    What depth steps share they go on sharing. Everything is read and checked before the model is touched by `put`.
    Raises CheckpointError where it takes the place of weights that are quantized here, and for what
    `Adapter.factors` refuses.
    """

    def __init__(self, lm: Lm, adapter: Adapter) -> None:
        layers = {
            path: layer.base if isinstance(layer, AdaptedLinear) else layer for path, layer in lm.named_modules()
        }
        read: dict[int, tuple[mx.array, mx.array]] = {}  # one for all places that share an array
        self._factors: dict[str, tuple[mx.array, mx.array]] = {}
        self._values: dict[str, mx.array] = {}  # of what the adapter replaces
        self._own: dict[str, mx.array] = {}  # the model's, meanwhile
        for name in adapter.pairs:
            path = name.removesuffix(".weight")
            same = id(layers[path]["weight"])
            if same not in read:
                read[same] = _factors(lm, adapter, name)
            self._factors[path] = read[same]
        for name in adapter.replaced:
            path, _, leaf = name.rpartition(".")
            layer = layers[path]
            _refuse_quantized(layer, adapter, name)
            zeros = np.zeros(layer[leaf].shape, np.float32)
            self._values[name] = mx.array(adapter.merge(name, zeros)).astype(layer[leaf].dtype)
        mx.eval(list(self._values.values()))

    def put(self, lm: Lm) -> None:
        """Put it on the model, which has no other one beside it."""
        held = parameters(lm)
        self._own = {name: held[name] for name in self._values}
        layers = dict(lm.named_modules())
        made = {path: AdaptedLinear(layers[path], *factors) for path, factors in self._factors.items()}
        lm.update(tree_unflatten(list(self._values.items())))
        lm.update_modules(tree_unflatten(list(made.items())))
        lm.eval()

    def remove(self, lm: Lm) -> None:
        """Take it away: the model is what it was, bit for bit."""
        bases = {path: layer.base for path, layer in lm.named_modules() if isinstance(layer, AdaptedLinear)}
        lm.update_modules(tree_unflatten(list(bases.items())))
        lm.update(tree_unflatten(list(self._own.items())))


def apply_adapter(lm: Lm, adapter: Adapter) -> None:
    """Put an adapter on a model, in place; to be called before `Lm.fuse`.

    What depth steps share they go on sharing. Raises CheckpointError where it takes the place of weights that are
    quantized here, and for what `Adapter.merge` refuses.
    """
    layers = dict(lm.named_modules())
    made: dict[int, mx.array] = {}  # one for all places that share an array
    beside: dict[int, tuple[mx.array, mx.array]] = {}
    for name, array in parameters(lm).items():
        path = name.removesuffix(".weight")
        if not adapter.touches(name):
            continue
        layer, same = layers.get(path), id(array)
        if layer is None or "scales" not in layer:
            if same not in made:
                rows = np.array(array.astype(mx.float32))
                made[same] = mx.array(adapter.merge(name, rows)).astype(array.dtype)
                mx.eval(made[same])
            lm.update(tree_unflatten([(name, made[same])]))
            continue
        if name in adapter.replaced:
            _refuse_quantized(layer, adapter, name)
        if same not in beside:
            beside[same] = _factors(lm, adapter, name)
        lm.update_modules(tree_unflatten([(path, AdaptedLinear(layer, *beside[same]))]))
    lm.eval()


def _factors(lm: Lm, adapter: Adapter, name: str) -> tuple[mx.array, mx.array]:
    """Return what stands beside a layer: (inputs, rank), and (rank, outputs) with the scaling in it."""
    down, up = (mx.array(factor).T.astype(lm.activation_dtype) for factor in adapter.factors(name))
    factors = down, (up * adapter.scaling).astype(lm.activation_dtype)
    mx.eval(factors)
    return factors


def _refuse_quantized(layer: nn.Module, adapter: Adapter, name: str) -> None:
    if "scales" in layer:
        raise CheckpointError(
            f"{adapter.path} takes the place of {name}, which is quantized in this model; use the bf16 base"
        )
