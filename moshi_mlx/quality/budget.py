"""What `moshi-mlx quantize` asks of a model before it writes one: a recipe for a number of bytes, and levels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_unflatten

from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.errors import QuantizationError
from moshi_mlx.models.layers import recast
from moshi_mlx.models.lm import Lm
from moshi_mlx.quality.conversations import Conversation, hear_recordings, steps_to_hear, talk
from moshi_mlx.quality.predictions import predict
from moshi_mlx.quality.search import search, steps_to_search
from moshi_mlx.weights.quantization import Recipe


def steps_to_study(recordings: Sequence[np.ndarray]) -> int:
    """Return how many steps `Studied` will count."""
    return 2 * steps_to_hear(recordings)


class Studied:
    """A dense model in memory and conversations it had, on which recipes are searched and levels calibrated.

    recordings: (samples,) float32 at 24 kHz each. advance: told of every step heard or said, see `steps_to_study`.
    Raises QuantizationError for a model that is quantized already.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        recordings: Sequence[np.ndarray],
        seed: int = 0,
        advance: Callable[[int], None] = lambda steps: None,
    ) -> None:
        if checkpoint.scheme:
            raise QuantizationError(
                f"{checkpoint.name} is already quantized, {checkpoint.scheme}: what its layers are worth is "
                "measured on the bf16 model, start from that"
            )
        heard = hear_recordings(checkpoint, recordings, advance=advance)
        self.lm = checkpoint.load_lm(mx.float32)
        recast(self.lm, mx.bfloat16, (mx.float32, mx.float16))  # as what is made of them is written
        self.conversations: list[Conversation] = talk(self.lm, heard, checkpoint.sampling, seed, advance)

    @property
    def steps(self) -> int:
        """Steps that `recipe` will read."""
        return steps_to_search(self.lm, self.conversations)

    def recipe(self, budget: int, advance: Callable[[int], None] = lambda steps: None) -> Recipe:
        """Search the best recipe of at most `budget` bytes of weights in memory. advance: told of steps read."""
        return search(self.lm, self.conversations, budget, f"mixed, {budget / 1e6:,.4g} MB", advance)

    def importance(self) -> dict[str, np.ndarray]:
        """Return what `make_checkpoint` needs to calibrate levels, see `importance`."""
        return importance(self.lm, self.conversations)


def importance(lm: Lm, conversations: Sequence[Conversation]) -> dict[str, np.ndarray]:
    """Return how much each input of each linear layer matters, (width,) by path: its mean square in conversations.

    Depth steps that share weights share their figures. lm: dense, left as it was.
    """
    layers = {path: layer for path, layer in lm.named_modules() if isinstance(layer, nn.Linear)}
    meters = {path: _Meter(layer) for path, layer in layers.items()}
    lm.update_modules(tree_unflatten(list(meters.items())))
    try:
        for conversation in conversations:
            for _ in predict(lm, conversation):
                mx.eval([meter.total for meter in meters.values()])
    finally:
        lm.update_modules(tree_unflatten(list(layers.items())))
    sums: dict[int, np.ndarray] = {}
    for path, meter in meters.items():
        key = id(layers[path].weight)
        sums[key] = sums.get(key, 0) + np.array(meter.total)
    steps = sum(map(len, conversations))
    return {path: sums[id(layers[path].weight)] / steps for path in meters}


class _Meter(nn.Module):
    """A linear layer that adds up the squares of its inputs."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer
        self.total = mx.zeros(layer.weight.shape[-1])

    def __call__(self, x: mx.array) -> mx.array:
        self.total = self.total + mx.sum(mx.square(x.astype(mx.float32)).reshape(-1, x.shape[-1]), axis=0)
        return self.layer(x)
