"""Matrices without bias: every projection of the language model and of Mimi's transformers."""

from collections.abc import Callable

import mlx.core as mx
import mlx.nn as nn


class Linear(nn.Linear):
    """x (..., inputs) -> (..., outputs); the weight is (outputs, inputs), as checkpoints have it."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=False)
        self._product: Callable[[mx.array], mx.array] | None = None

    def __call__(self, x: mx.array) -> mx.array:
        return self._product(x) if self._product else super().__call__(x)

    def settle(self) -> None:
        """Keep the weight's transpose, a view that needs no memory, instead of making one at every use."""
        transposed = self.weight.T
        mx.eval(transposed)
        self._product = lambda x: x @ transposed


def settle(module: nn.Module) -> None:
    """`Linear.settle` for all within. Only once weights are final: what is loaded later would go unseen."""
    for layer in module.modules():
        if isinstance(layer, Linear):
            layer.settle()
