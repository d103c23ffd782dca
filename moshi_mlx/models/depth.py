"""The depth transformer: within one frame, one small step per codebook, coarse to fine.

Each step has its own weights (or shares them by `schedule`); the steps of a frame attend to each other and to
nothing else.
Source: Moshi paper §3.4.1; moshi/models/lm.py `forward_depformer`, `depformer_step`.
"""

from collections.abc import Callable, Iterator, Sequence

import mlx.core as mx
import mlx.nn as nn

from moshi_mlx.models.cache import Chunk
from moshi_mlx.models.config import DepthConfig, LmConfig
from moshi_mlx.models.layers import Embedding, Linear, keep_transposes, make_norm, stack_rows
from moshi_mlx.models.transformer import Transformer


class DepthTransformer(nn.Module):
    """All steps; `slices[k]` generates codebook k from the hidden state and codebook k - 1 (text for k = 0)."""

    def __init__(self, config: LmConfig, depth: DepthConfig) -> None:
        super().__init__()
        self.slices = [DepthSlice(config, depth, step) for step in range(depth.steps)]
        self._depth = depth
        self._project_all: Callable[[mx.array], mx.array] | None = None  # all steps' inputs at once, see `fuse`

    def new_buffers(self, batch: int = 1, dtype: mx.Dtype = mx.float32) -> list[mx.array]:
        """Room for the keys and values of one frame, one array per layer; used again for every frame."""
        config = self._depth.transformer
        shape = (2 * batch, config.num_kv_heads, self._depth.steps, config.head_dim)
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
        previous, codes = text[:, None], []
        for step, x in enumerate(self._inputs(hidden)):
            logits = self.slices[step](x, previous, window)  # (B, 1, card)
            previous = sample(logits.reshape(logits.shape[0], -1), step)[:, None]
            codes.append(previous)
        return mx.concatenate(codes, axis=1)

    def logits(self, hidden: mx.array, tokens: mx.array) -> mx.array:
        """Teacher-forced logits of every codebook.

        hidden: (B, T, dim). tokens: (B, 1 + steps, T) int32, [text, codes] of the same frames; the last
        codebook is not read. Returns (B, steps, T, card).
        """
        B, T, dim = hidden.shape
        flat = hidden.reshape(B * T, 1, dim)
        window = DepthWindow(self.new_buffers(B * T, hidden.dtype))
        steps = [
            self.slices[step](x, tokens[:, step].reshape(B * T, 1), window).reshape(B, T, -1)
            for step, x in enumerate(self._inputs(flat))
        ]
        return mx.stack(steps, axis=1)

    def fuse(self) -> None:
        """Lay the steps' input projections side by side, so that one matmul serves them all."""
        order = [self._depth.schedule.index(weights) for weights in range(max(self._depth.schedule) + 1)]
        projection = stack_rows([self.slices[step].linear_in for step in order])
        if projection:
            keep_transposes(projection)
            self._project_all = projection.__call__
            for slice_, weights in zip(self.slices, self._depth.schedule, strict=True):
                slice_.linear_in = self.slices[order[weights]].linear_in  # steps may share weights

    def _inputs(self, hidden: mx.array) -> Iterator[mx.array]:
        """The input projection of every step, (B, 1, depth dim) each. hidden: (B, 1, dim)."""
        if not self._project_all:
            for slice_ in self.slices:
                yield slice_.linear_in(hidden)
            return
        parts = mx.split(self._project_all(hidden), max(self._depth.schedule) + 1, axis=-1)
        for weights in self._depth.schedule:
            yield parts[weights]


class DepthSlice(nn.Module):
    """One step: its input projection, embedding of what came before, transformer, and head."""

    def __init__(self, config: LmConfig, depth: DepthConfig, step: int) -> None:
        super().__init__()
        dim = depth.transformer.dim
        self.linear_in = Linear(config.transformer.dim, dim)
        rows = (config.card if step else config.text_card) + 1
        self.emb = Embedding(rows, dim, depth.low_rank_embeddings)
        self.transformer = Transformer(depth.transformer)
        if depth.norm:
            self.norm = make_norm(depth.norm, dim)
        self.linear_out = Linear(dim, config.card)
        self._has_norm = bool(depth.norm)

    def __call__(self, x: mx.array, previous: mx.array, window: "DepthWindow") -> mx.array:
        """x: (B, 1, depth dim), from `linear_in`; previous: (B, 1) int32. Returns logits (B, 1, card)."""
        x = self.transformer(x + self.emb(previous).astype(x.dtype), window)
        return self.linear_out(self.norm(x) if self._has_norm else x)


class DepthWindow:
    """The keys and values of one frame's steps so far, in the shape that `Transformer` writes to.

    buffers[layer]: (2 B, kv heads, steps, head dim), the keys of all rows first. Nothing is masked: a step attends
    to all steps before it.
    """

    step = 0  # no chunk is of the usual size: the caller compiles all steps of a frame as one

    def __init__(self, buffers: list[mx.array]) -> None:
        self.buffers = buffers
        self.position = 0

    def begin(self, count: int, rows: object = None) -> Chunk:
        """Prepare a step. count: 1."""
        assert count == 1, "a depth step is one position"
        return Chunk(self.position, 1, self.position + 1, None)

    def extend(self, layer: int, keys_values: Sequence[mx.array], chunk: Chunk) -> tuple[mx.array, mx.array]:
        """Store a step of one layer. Returns all keys and values so far, (B, kv heads, n, head dim) each."""
        both = keys_values[0] if len(keys_values) == 1 else mx.concatenate(list(keys_values))
        buffer = self.buffers[layer]
        buffer[:, :, chunk.position : chunk.filled] = both
        keys, values = mx.split(both if chunk.position == 0 else buffer[:, :, : chunk.filled], 2)
        return keys, values

    def end(self, chunk: Chunk) -> None:
        """Count the step as past."""
        self.position = chunk.filled
