"""What `moshi-mlx quantize` asks of a model before it writes one: a recipe for a number of bytes, and levels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_unflatten

from moshi_mlx.audio.file_stream import FileSource
from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.errors import QuantizationError
from moshi_mlx.models.layers import recast
from moshi_mlx.models.lm import Lm
from moshi_mlx.quality.conversations import Conversation, hear, talk
from moshi_mlx.quality.evaluator import LEAD, TAIL
from moshi_mlx.quality.predictions import predict
from moshi_mlx.quality.search import search, steps_to_search
from moshi_mlx.weights.quantization import Recipe


def steps_to_study(recordings: Sequence[np.ndarray]) -> int:
    """How many steps `Studied` counts."""
    return 2 * sum(FileSource(pcm, LEAD, TAIL).frames + 1 for pcm in recordings)


class Studied:
    """A dense model in memory, and conversations it had, from which it is known what it can do without.

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
        codec = checkpoint.load_codec("auto")
        config = checkpoint.lm_config
        heard = [hear(codec, config, FileSource(pcm, LEAD, TAIL), advance) for pcm in recordings]
        self.lm = checkpoint.load_lm(mx.float32)
        recast(self.lm, mx.bfloat16, (mx.float32, mx.float16))  # as what is made of them is written
        self.conversations: list[Conversation] = talk(self.lm, heard, checkpoint.sampling, seed, advance)

    @property
    def steps(self) -> int:
        """How many steps `recipe` reads."""
        return steps_to_search(self.lm, self.conversations)

    def recipe(self, budget: int, advance: Callable[[int], None] = lambda steps: None) -> Recipe:
        """The best recipe found of at most `budget` bytes of weights in memory. advance: told of steps read."""
        return search(self.lm, self.conversations, budget, f"mixed, {budget / 1e6:,.4g} MB", advance)

    def importance(self) -> dict[str, np.ndarray]:
        """What `make_checkpoint` needs to calibrate, see `importance`."""
        return importance(self.lm, self.conversations)


def importance(
    lm: Lm, conversations: Sequence[Conversation], advance: Callable[[int], None] = lambda steps: None
) -> dict[str, np.ndarray]:
    """Return how much each input of each linear layer matters, (width,) by path: its mean square in conversations.

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


class _Meter(nn.Module):
    """A linear layer that adds up the squares of its inputs."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer
        self.total = mx.zeros(layer.weight.shape[-1])

    def __call__(self, x: mx.array) -> mx.array:
        self.total = self.total + mx.sum(mx.square(x.astype(mx.float32)).reshape(-1, x.shape[-1]), axis=0)
        return self.layer(x)
