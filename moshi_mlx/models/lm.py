"""The language model: streams of tokens in, a text token and the codes of one frame out.

The temporal transformer runs over the summed embeddings of all streams, one position per frame. Within a frame the
depth transformer runs, one small step per codebook, coarse to fine. Attribute names equal the keys of Kyutai's MLX
checkpoints.
Source: Moshi paper §3.4; moshi/models/lm.py `LMModel`, `forward_depformer`, `depformer_step`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from moshi_mlx.models.cache import Chunk, KVCache
from moshi_mlx.models.conditioner_config import Condition
from moshi_mlx.models.conditioners import ConditionProvider
from moshi_mlx.models.config import DepthConfig, LmConfig
from moshi_mlx.models.layers import (
    Embedding,
    Linear,
    PairEmbedding,
    keep_transposes,
    make_norm,
    parameter_bytes,
    parameters,
    recast,
    stack_rows,
)
from moshi_mlx.models.transformer import Transformer, forget_traces, prepare_kernels

WIDEN_BELOW = 1 << 30  # bytes: twice as many are no burden to a machine that runs such a model on its CPU


@dataclass
class LmState:
    """Everything the model remembers of the conversations in a batch."""

    temporal: KVCache
    depth: list[mx.array]  # from `DepthTransformer.new_buffers`; empty for models without one
    crossed: list[mx.array] = field(default_factory=list)  # from `Lm.crossed`; empty for models without any

    def arrays(self) -> list[mx.array]:
        """Return every array held, to be evaluated together with what a step returns."""
        return self.temporal.arrays() + self.depth + self.crossed

    def rewind(self) -> None:
        """Start over for all rows, as if new."""
        self.temporal.rewind()

    def reset_row(self, row: int) -> None:
        """Make one row forget its conversation, without touching the others."""
        self.temporal.reset_row(row)


class Lm(nn.Module):
    """The temporal transformer over sums of embeddings, the text head, and the depth transformer.

    dtype: of the activations; float32 unless given.
    """

    def __init__(self, config: LmConfig, dtype: mx.Dtype | None = None) -> None:
        super().__init__()
        dim = config.transformer.dim
        self.text_emb = text_embedding(config, dim)
        self.audio_embs = [Embedding(config.card + 1, dim) for _ in range(config.n_q)]
        self.transformer = Transformer(config.transformer)
        self.out_norm = make_norm(config.transformer.norm, dim)
        self.text_linear = Linear(dim, config.text_classes)
        if config.depth:
            self.depformer = DepthTransformer(config, config.depth)
        if config.extra_heads:
            self.extra_heads = [Linear(dim, config.extra_heads_dim) for _ in range(config.extra_heads)]
        if config.conditioners:
            self.condition_provider = ConditionProvider(config.conditioning, dim)
        self._config = config
        self.activation_dtype = dtype or mx.float32
        self._look_up: Callable[[mx.array, mx.Dtype], mx.array] | None = None  # in all audio tables; see `fuse`
        self._first_rows = mx.arange(config.n_q)[:, None] * (config.card + 1)  # of each stream there

    @property
    def config(self) -> LmConfig:
        """The config that the model was made with."""
        return self._config

    def new_state(
        self, batch: int = 1, kv_bits: int | None = None, context: int | None = None, step: int = 1
    ) -> LmState:
        """Return the state of `batch` new conversations.

        kv_bits: 8 keeps the window of the temporal transformer in int8.
        context: positions in that window; those of the config unless given.
        step: the most positions of the usual chunk, see `Transformer.new_state`.
        """
        dtype = self.activation_dtype
        return LmState(
            self.transformer.new_state(batch, step, dtype, kv_bits, context),
            self.depformer.new_buffers(batch, dtype) if self.config.depth else [],
        )

    def embed(self, tokens: mx.array) -> mx.array:
        """Add up the embeddings of all streams.

        tokens: (B, 1 + n_q, T) int32, [text, audio streams]; -1 embeds to exactly zero. Returns (B, T, dim).
        """
        dtype = self.activation_dtype
        total = self.text_emb(tokens[:, 0], dtype)
        if self._look_up:
            ids = tokens[:, 1:]
            ids = mx.where(ids < 0, ids, ids + self._first_rows)
            return total + mx.sum(self._look_up(ids, dtype), axis=1)
        for stream, table in enumerate(self.audio_embs):
            total = total + table(tokens[:, stream + 1], dtype)
        return total

    def fuse(self) -> None:
        """Join weights that are used together, so that one kernel serves them; nothing is held twice.

        To be called once the weights are final: what is loaded or quantized later would not be used, see `unfuse`.
        """
        if self._look_up:
            return
        mx.eval(self._first_rows)
        self._look_up = table.__call__ if (table := stack_rows(self.audio_embs)) else None
        if self.config.depth:
            self.depformer.fuse()
        keep_transposes(self)
        prepare_kernels(self, self.activation_dtype)

    def unfuse(self) -> None:
        """Undo `fuse`, and forget what was compiled: layers may be replaced."""
        self._look_up = None
        if self.config.depth:
            self.depformer._project_all = None
        forget_traces(self)

    def temporal(
        self,
        tokens: mx.array,
        state: LmState,
        condition: mx.array | None = None,
        rows: np.ndarray | None = None,
        embeddings: mx.array | None = None,
    ) -> mx.array:
        """Run the temporal transformer over T positions, continuing the conversations held in `state`.

        tokens: (B, 1 + n_q, T) int32. condition: (1 | B, 1, dim), added to every position.
        rows: (B,) bool, the rows that run; all unless given. embeddings: (n, dim), what the first n positions read
        in place of the sums of their tokens' embeddings. Returns the normed hidden state (B, T, dim).
        """
        x = self.embed(tokens)
        if embeddings is not None:
            count, dim = embeddings.shape
            given = mx.broadcast_to(embeddings.astype(x.dtype), (x.shape[0], count, dim))
            x = mx.concatenate([given, x[:, count:]], axis=1)
        if condition is not None:
            x = x + condition.astype(x.dtype)
        return self.out_norm(self.transformer(x, state.temporal, rows, state.crossed))

    def add_extra_heads(self, weights: Sequence[mx.array]) -> None:
        """Give a model without extra heads some that another file holds. weights: (classes, dim) each."""
        assert not self.config.extra_heads, "the model has extra heads"
        classes, dim = weights[0].shape
        self.extra_heads = [Linear(dim, classes) for _ in weights]
        for head, weight in zip(self.extra_heads, weights, strict=True):
            head.weight = weight.astype(self.activation_dtype)
        self._config = replace(self._config, extra_heads=len(weights), extra_heads_dim=classes)

    def vad(self, hidden: mx.array) -> mx.array:
        """Return what the extra heads say of voice activity, as probabilities; only for models that have some.

        hidden: (B, T, dim), normed. Returns (B, T, heads, classes) float32. Kyutai's heads look 0.5, 1, 2 and 3
        seconds ahead, and class 0 is silence.
        Source: moshi/models/lm.py `LMGen.step_with_extra_heads`.
        """
        logits = mx.stack([head(hidden) for head in self.extra_heads], axis=2)
        return mx.softmax(logits.astype(mx.float32), axis=-1)

    def condition(self, values: Mapping[str, Condition] | None = None) -> mx.array | None:
        """Return the vector that conditioners add to every position, (1, 1, dim); None for models without any.

        values: name -> value, as `LmConfig.conditions` takes and completes them.
        Raises ConfigError for an unknown name or value.
        """
        values = self.config.conditions(values)
        return self.condition_provider.added(values) if values else None

    def crossed(self, values: Mapping[str, Condition] | None = None) -> list[mx.array]:
        """Return what the cross attention of every layer reads, (2, H, S, head dim); none for models without any.

        Keys come first. values: as in `condition`.
        """
        values = self.config.conditions(values)
        source = self.condition_provider.crossed(values) if values else None
        return [] if source is None else self.transformer.crossed_by(source.astype(self.activation_dtype))

    def read_text_as(self, token: int, other: int) -> None:
        """Let the temporal transformer read one text token as another; to be called before `fuse`."""
        for array in parameters(self.text_emb).values():
            array[token] = array[other]
        mx.eval(self.text_emb.parameters())


def text_embedding(config: LmConfig, dim: int, low_rank: int | None = None) -> Embedding | PairEmbedding:
    """Return a table of text tokens, which may be two in one."""
    kind = PairEmbedding if config.demux_second_stream else Embedding
    return kind(config.text_card + 1, dim, low_rank)


def widen_on_cpu(lm: Lm) -> bool:
    """Hold a small model's half-precision arrays in float32 where MLX runs on the CPU; elsewhere change nothing.

    MLX's CPU backend converts such an operand anew whenever it is used: half of a small model's frame.
    Models of more than WIDEN_BELOW bytes stay as they are. Returns whether this one did not.
    """
    if small := mx.default_device() != mx.gpu and parameter_bytes(lm) <= WIDEN_BELOW:
        lm.activation_dtype = mx.float32
        recast(lm, mx.float32, (mx.bfloat16, mx.float16))
    return small


class DepthTransformer(nn.Module):
    """One step per codebook: `slices[k]` generates code k from the hidden state and code k - 1 (text for k = 0).

    Steps have their own weights or share them by `schedule`. They attend to the earlier steps of the frame alone.
    """

    def __init__(self, config: LmConfig, depth: DepthConfig) -> None:
        super().__init__()
        self.slices = [DepthSlice(config, depth, step) for step in range(depth.steps)]
        self._depth = depth
        self._project_all: Callable[[mx.array], mx.array] | None = None  # for all steps at once; see `fuse`

    def new_buffers(self, batch: int = 1, dtype: mx.Dtype = mx.float32) -> list[mx.array]:
        """Return room for the keys and values of one frame, an array per layer; every frame uses it again."""
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
        """Generate the codes of one frame, step by step.

        hidden: (B, dim) from the temporal transformer. text: (B,) ints, the text token of this frame.
        buffers: from `new_buffers`; they are overwritten, and what they held is not read.
        sample: (logits (B, card), step) -> tokens (B,).
        Returns codes (B, steps), of the type that `sample` gives.
        """
        window = DepthWindow(buffers)
        codes = [text]
        for step, x in enumerate(self._inputs(hidden)):
            codes.append(sample(self.slices[step](x, codes[-1], window), step))
        return mx.stack(codes[1:], axis=1)

    def logits(self, hidden: mx.array, tokens: mx.array) -> mx.array:
        """Return the teacher-forced logits of every codebook.

        hidden: (B, T, dim). tokens: (B, 1 + steps, T) int32, [text, codes] of the same frames; the last
        codebook is not read. Returns (B, steps, T, card).
        """
        B, T, dim = hidden.shape
        flat = hidden.reshape(B * T, dim)
        window = DepthWindow(self.new_buffers(B * T, hidden.dtype))
        steps = [
            self.slices[step](x, tokens[:, step].reshape(B * T), window).reshape(B, T, -1)
            for step, x in enumerate(self._inputs(flat))
        ]
        return mx.stack(steps, axis=1)

    def fuse(self) -> None:
        """Join the input projections of all steps, so that one matmul serves them; see `Lm.fuse`."""
        order = [self._depth.schedule.index(weights) for weights in range(max(self._depth.schedule) + 1)]
        projection = stack_rows([self.slices[step].linear_in for step in order])
        if projection:
            keep_transposes(projection)
            self._project_all = projection.__call__
            for slice_, weights in zip(self.slices, self._depth.schedule, strict=True):
                slice_.linear_in = self.slices[order[weights]].linear_in  # steps may share weights

    def _inputs(self, hidden: mx.array) -> Iterator[mx.array]:
        """Yield the input of every step, (B, depth dim) each, projected from hidden (B, dim)."""
        if not self._project_all:
            for slice_ in self.slices:
                yield slice_.linear_in(hidden)
            return
        parts = mx.split(self._project_all(hidden), max(self._depth.schedule) + 1, axis=-1)
        for weights in self._depth.schedule:
            yield parts[weights]


class DepthSlice(nn.Module):
    """One step: input projection, embedding of the previous token, transformer, and head."""

    def __init__(self, config: LmConfig, depth: DepthConfig, step: int) -> None:
        super().__init__()
        dim = depth.transformer.dim
        self.linear_in = Linear(config.transformer.dim, dim)
        low_rank = depth.low_rank_embeddings
        self.emb = Embedding(config.card + 1, dim, low_rank) if step else text_embedding(config, dim, low_rank)
        self.transformer = Transformer(depth.transformer)
        if depth.norm:
            self.norm = make_norm(depth.norm, dim)
        self.linear_out = Linear(dim, config.card)
        self._has_norm = bool(depth.norm)

    def __call__(self, x: mx.array, previous: mx.array, window: DepthWindow) -> mx.array:
        """x: (B, depth dim), from `linear_in`; previous: (B,) ints. Returns logits (B, card)."""
        x = self.transformer(x + self.emb(previous, x.dtype), window)
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
