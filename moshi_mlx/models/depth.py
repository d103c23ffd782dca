"""The depth transformer: within one frame, one small step per codebook, coarse to fine.

Each step has its own weights (or shares them by `schedule`); the steps of a frame attend to each other and to
nothing else.
Source: Moshi paper §3.4.1; moshi/models/lm.py `forward_depformer`, `depformer_step`.
"""

from collections.abc import Callable, Sequence

import mlx.core as mx
import mlx.nn as nn

from moshi_mlx.models.cache import Push
from moshi_mlx.models.config import DepthConfig, LmConfig
from moshi_mlx.models.embedding import Embedding
from moshi_mlx.models.norm import make_norm
from moshi_mlx.models.transformer import Transformer


class DepthTransformer(nn.Module):
    """All steps; `slices[k]` generates codebook k from the hidden state and codebook k - 1 (text for k = 0)."""

    def __init__(self, config: LmConfig, depth: DepthConfig) -> None:
        super().__init__()
        self.slices = [DepthSlice(config, depth, step) for step in range(depth.steps)]
        self._depth = depth

    def new_buffers(self, batch: int = 1, dtype: mx.Dtype = mx.float32) -> list[mx.array]:
        """Room for the keys and values of one frame, one array per layer; used again for every frame."""
        config = self._depth.transformer
        shape = (batch, 2 * config.num_kv_heads, self._depth.steps, config.head_dim)
        return [mx.zeros(shape, dtype) for _ in range(config.num_layers)]

    def generate(
        self,
        hidden: mx.array,
        text: mx.array,
        buffers: list[mx.array],
        sample: Callable[[mx.array, int], mx.array],
    ) -> mx.array:
        """Generate the codes of one frame, step after step.

        hidden: (B, 1, dim) from the temporal transformer. text: (B,) int32, the text token of this frame.
        buffers: from `new_buffers`; its entries are replaced by what was written. What they held is not read.
        sample: (logits (B, card), step) -> tokens (B,).
        Returns codes (B, steps) int32.
        """
        window = DepthWindow(buffers)
        previous, codes = text, []
        for step, slice_ in enumerate(self.slices):
            previous = sample(slice_(hidden, previous[:, None], window)[:, 0], step)
            codes.append(previous)
        return mx.stack(codes, axis=1)

    def logits(self, hidden: mx.array, tokens: mx.array) -> mx.array:
        """Teacher-forced logits of every codebook.

        hidden: (B, T, dim). tokens: (B, 1 + steps, T) int32, [text, codes] of the same frames; the last
        codebook is not read. Returns (B, steps, T, card).
        """
        B, T, dim = hidden.shape
        flat = hidden.reshape(B * T, 1, dim)
        window = DepthWindow(self.new_buffers(B * T, hidden.dtype))
        steps = [
            slice_(flat, tokens[:, step].reshape(B * T, 1), window).reshape(B, T, -1)
            for step, slice_ in enumerate(self.slices)
        ]
        return mx.stack(steps, axis=1)


class DepthSlice(nn.Module):
    """One step: its input projection, embedding of what came before, transformer, and head."""

    def __init__(self, config: LmConfig, depth: DepthConfig, step: int) -> None:
        super().__init__()
        dim = depth.transformer.dim
        self.linear_in = nn.Linear(config.transformer.dim, dim, bias=False)
        rows = (config.card if step else config.text_card) + 1
        self.emb = Embedding(rows, dim, depth.low_rank_embeddings)
        self.transformer = Transformer(depth.transformer)
        if depth.norm:
            self.norm = make_norm(depth.norm, dim)
        self.linear_out = nn.Linear(dim, config.card, bias=False)
        self._has_norm = bool(depth.norm)

    def __call__(self, hidden: mx.array, previous: mx.array, window: "DepthWindow") -> mx.array:
        """hidden: (B, 1, temporal dim); previous: (B, 1) int32. Returns logits (B, 1, card)."""
        x = self.linear_in(hidden)
        x = self.transformer(x + self.emb(previous).astype(x.dtype), window)
        return self.linear_out(self.norm(x) if self._has_norm else x)


class DepthWindow:
    """The keys and values of one frame's steps so far, in the shape that `Transformer` writes to.

    buffers[layer]: (B, 2 x kv heads, steps, head dim), keys first. Nothing is masked: a step sees all before it.
    """

    step = 0  # no push is of a usual size: the caller compiles all steps of a frame as one

    def __init__(self, buffers: list[mx.array]) -> None:
        self.buffers = buffers
        self.position = 0

    def begin(self, count: int, rows: object = None) -> Push:
        assert count == 1, "a depth step pushes one position"
        return Push(self.position, 1, self.position + 1, None)

    def extend(self, layer: int, keys_values: Sequence[mx.array], push: Push) -> tuple[mx.array, mx.array]:
        both = keys_values[0] if len(keys_values) == 1 else mx.concatenate(list(keys_values), axis=1)
        self.buffers[layer][:, :, push.position : push.filled] = both
        seen = self.buffers[layer][:, :, : push.filled]
        heads = seen.shape[1] // 2
        return seen[:, :heads], seen[:, heads:]

    def end(self, push: Push) -> None:
        self.position = push.filled
