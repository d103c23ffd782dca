"""A loaded model with an adapter on it: merged into dense weights, beside quantized ones."""

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
    """A quantized layer and the low-rank factors beside it, x (..., inputs) -> (..., outputs).

    Merged, the sum would have to be quantized again, which an adapter's small differences do not survive.
    """

    def __init__(self, base: nn.Module, down: mx.array, up: mx.array) -> None:
        super().__init__()
        self.base = base
        self.down, self.up = down, up  # (inputs, rank), (rank, outputs)

    def __call__(self, x: mx.array) -> mx.array:
        return self.base(x) + ((x @ self.down) @ self.up).astype(x.dtype)


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
            raise CheckpointError(
                f"{adapter.path} takes the place of {name}, which is quantized in this model; use the bf16 base"
            )
        if same not in beside:
            down, up = (mx.array(factor).T.astype(lm.activation_dtype) for factor in adapter.factors(name))
            beside[same] = down, (up * adapter.scaling).astype(lm.activation_dtype)
            mx.eval(beside[same])
        lm.update_modules(tree_unflatten([(path, AdaptedLinear(layer, *beside[same]))]))
    lm.eval()
