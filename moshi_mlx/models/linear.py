"""Matrices without bias: every projection of the language model and of Mimi's transformers."""

from collections.abc import Callable

import mlx.core as mx
import mlx.nn as nn


class Linear(nn.Linear):
    """x (..., inputs) -> (..., outputs); the weight is (outputs, inputs), as checkpoints have it."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=False)
        self._transpose: Callable[[mx.array], mx.array] = mx.transpose

    def __call__(self, x: mx.array) -> mx.array:
        return x @ self._transpose(self["weight"])

    def settle(self) -> None:
        """Keep the weight's transpose, a view that needs no memory, instead of making one at every use."""
        settled, kept = self["weight"], self["weight"].T
        mx.eval(kept)
        self._transpose = lambda weight: kept if weight is settled else weight.T


def settle(module: nn.Module) -> None:
    """`Linear.settle` for all within, once weights are final: of one replaced later, the old one stays held."""
    for layer in module.modules():
        if isinstance(layer, Linear):
            layer.settle()
