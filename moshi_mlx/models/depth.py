"""The depth transformer: within one frame, one small step per codebook, coarse to fine.

Each step has its own weights (or shares them by `schedule`); all steps of a frame attend to each other through
one window that starts empty at every frame.
Source: Moshi paper §3.4.1; moshi/models/lm.py `forward_depformer`, `depformer_step`.
"""

from collections.abc import Callable

import mlx.core as mx
import mlx.nn as nn

from moshi_mlx.models.cache import KVCache
from moshi_mlx.models.config import DepthConfig, LmConfig
from moshi_mlx.models.embedding import Embedding
from moshi_mlx.models.norm import make_norm
from moshi_mlx.models.transformer import Transformer


class DepthTransformer(nn.Module):
    """All steps; `slices[k]` generates codebook k from the hidden state and codebook k - 1 (text for k = 0)."""

    def __init__(self, config: LmConfig, depth: DepthConfig) -> None:
        super().__init__()
        self.slices = [DepthSlice(config, depth, step) for step in range(depth.steps)]

    def new_state(self, batch: int = 1, dtype: mx.Dtype = mx.float32) -> KVCache:
        """The window of one frame; used again for every frame."""
        return self.slices[0].transformer.new_state(batch, dtype=dtype)

    def generate(
        self, hidden: mx.array, text: mx.array, state: KVCache, sample: Callable[[mx.array, int], mx.array]
    ) -> mx.array:
        """Generate the codes of one frame, step after step.

        hidden: (B, 1, dim) from the temporal transformer. text: (B,) int32, the text token of this frame.
        sample: (logits (B, card), step) -> tokens (B,).
        Returns codes (B, steps) int32.
        """
        state.rewind()
        previous, codes = text, []
        for step, slice_ in enumerate(self.slices):
            previous = sample(slice_(hidden, previous[:, None], state)[:, 0], step)
            codes.append(previous)
        return mx.stack(codes, axis=1)

    def logits(self, hidden: mx.array, tokens: mx.array) -> mx.array:
        """Teacher-forced logits of every codebook.

        hidden: (B, T, dim). tokens: (B, 1 + steps, T) int32, [text, codes] of the same frames; the last
        codebook is not read. Returns (B, steps, T, card).
        """
        B, T, dim = hidden.shape
        flat = hidden.reshape(B * T, 1, dim)
        state = self.new_state(B * T, hidden.dtype)
        steps = [
            slice_(flat, tokens[:, step].reshape(B * T, 1), state).reshape(B, T, -1)
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

    def __call__(self, hidden: mx.array, previous: mx.array, state: KVCache) -> mx.array:
        """hidden: (B, 1, temporal dim); previous: (B, 1) int32. Returns logits (B, 1, card)."""
        x = self.linear_in(hidden)
        x = self.transformer(x + self.emb(previous).astype(x.dtype), state)
        return self.linear_out(self.norm(x) if self._has_norm else x)
