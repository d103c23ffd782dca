"""Quantizing with a layer's inputs in mind: how much each of them matters, and the levels that follow from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_unflatten

from moshi_mlx.models.layers import QuantizedEmbedding
from moshi_mlx.models.lm import Lm
from moshi_mlx.quality.conversations import Conversation
from moshi_mlx.quality.predictions import predict
from moshi_mlx.quantize.levels import calibrated
from moshi_mlx.weights.scheme import Scheme

Importance = Mapping[str, np.ndarray]
"""Path of a linear layer -> mean square of each of its inputs, (width,)."""


def importance(
    lm: Lm, conversations: Sequence[Conversation], advance: Callable[[int], None] = lambda steps: None
) -> dict[str, np.ndarray]:
    """How much each input of each linear layer matters: its mean square over some conversations.

    Depth steps that share weights share their figures. lm: dense, left as it was.
    """
    layers = {path: layer for path, layer in lm.named_modules() if isinstance(layer, nn.Linear)}
    meters = {path: _Meter(layer) for path, layer in layers.items()}
    lm.update_modules(tree_unflatten(list(meters.items())))
    try:
        for conversation in conversations:
            for prediction in predict(lm, conversation):
                advance(len(prediction.hidden))
                mx.eval([meter.total for meter in meters.values()])
    finally:
        lm.update_modules(tree_unflatten(list(layers.items())))
    sums: dict[int, np.ndarray] = {}
    for path, meter in meters.items():
        key = id(layers[path].weight)
        sums[key] = sums.get(key, 0) + np.array(meter.total)
    steps = sum(map(len, conversations))
    return {path: sums[id(layers[path].weight)] / steps for path in meters}


def calibrate(quantized: Lm, dense: Lm, weights: Importance) -> None:
    """Choose the levels of a quantized model anew, in place. dense: the model it was made from."""
    originals = dict(dense.named_modules())
    done: dict[int, tuple[mx.array, ...]] = {}  # steps that share an array go on sharing it
    for path, layer in quantized.named_modules():
        if not isinstance(layer, nn.QuantizedLinear | QuantizedEmbedding) or layer.mode != "affine":
            continue
        key = id(layer.weight)
        if key not in done:
            scheme = Scheme(layer.bits, layer.group_size)
            done[key] = (layer.weight, *calibrated(originals[path].weight, scheme, weights.get(path)))
        layer.weight, layer.scales, layer.biases = done[key][1:]
    mx.eval(quantized.parameters())


class _Meter(nn.Module):
    """A linear layer that adds up the squares of its inputs."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer
        self.total = mx.zeros(layer.weight.shape[-1])

    def __call__(self, x: mx.array) -> mx.array:
        self.total = self.total + mx.sum(mx.square(x.astype(mx.float32)).reshape(-1, x.shape[-1]), axis=0)
        return self.layer(x)
