"""The streaming transformer, used as temporal transformer, in each depth step, and twice in Mimi.

Attribute names equal the checkpoints' keys. Source: moshi/modules/transformer.py, moshi/modules/gating.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from moshi_mlx.models import add_norm, rope
from moshi_mlx.models.activations import gelu
from moshi_mlx.models.cache import Chunk, KVCache, Stored, attend
from moshi_mlx.models.config import TransformerConfig
from moshi_mlx.models.layers import Linear, RMSNorm, compiled, make_norm


class Window(Protocol):
    """Where a transformer keeps keys and values: `KVCache`, or something that behaves like one."""

    step: int  # the most positions of a chunk of the usual size

    def begin(self, count: int, rows: np.ndarray | None = None) -> Chunk:
        """Prepare a chunk of `count` positions; see `KVCache.begin`."""
        ...

    def extend(self, layer: int, keys_values: Sequence[mx.array], chunk: Chunk) -> tuple[Stored, Stored]:
        """Store the chunk of one layer. Returns the keys and values to attend to; see `KVCache.extend`."""
        ...

    def end(self, chunk: Chunk) -> None:
        """Count the positions of the chunk as past, once all layers have stored it."""
        ...


LONGEST_TABLE = 16  # positions that are rotated by a table; the angles of more are MLX's to compute


class Transformer(nn.Module):
    """A causal stack of layers over a sliding window of `config.context` positions."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self._config = config
        self._window: Callable[..., KVCache] = KVCache  # what makes a state
        self.layers = [TransformerLayer(config) for _ in range(config.num_layers)]
        self._segments = self._make_segments()
        self._fused = [compiled(segment) for segment in self._segments]

    def forget_traces(self) -> None:
        """Compile anew when it runs next: a trace holds the layers' weights of its time."""
        self._fused = [compiled(segment) for segment in self._segments]

    def new_state(
        self,
        batch: int = 1,
        step: int = 1,
        dtype: mx.Dtype = mx.float32,
        kv_bits: int | None = None,
        context: int | None = None,
    ) -> KVCache:
        """Return the state of a fresh stream of `batch` rows.

        step: the most positions of the usual chunk; longer chunks give the same, only slower.
        dtype: of the activations and of the stored keys and values, which kv_bits = 8 keeps in int8 instead.
        context: positions in the window, those of the config unless given.
        """
        config = replace(self._config, context=context or self._config.context)
        return self._window(config, batch, step, dtype, kv_bits)

    def __call__(
        self, x: mx.array, state: Window, rows: np.ndarray | None = None, crossed: Sequence[mx.array] = ()
    ) -> mx.array:
        """Process T positions, continuing the stream held in `state`.

        x: (B, T, dim), or (B, dim) for one position. rows: (B,) bool, the rows that run; positions of the others
        are forgotten. crossed: from `crossed_by`, for models with cross attention. Returns like x.
        """
        shape = x.shape
        chunk = state.begin(shape[1] if x.ndim == 3 else 1, rows)
        # Chunks of the usual size are fused; others, such as a prompt's, would be traced for every size.
        segments = self._fused if chunk.count <= state.step else self._segments
        position = _rope_positions(chunk, x.shape[0], self._config)
        if self._config.rope == "sin":
            starts = [chunk.position] if chunk.lived is None else chunk.lived
            sines = rope.sinusoids(self._config, starts, chunk.count).astype(x.dtype)
            x = x + (sines[:, 0] if x.ndim == 2 else sines)
        x, queries, *keys_values = segments[0](x, position)
        for index, segment in enumerate(segments[1:]):
            keys, values = state.extend(index, keys_values, chunk)
            attended = attend(queries, keys, values, chunk.mask)
            x, queries, *keys_values = segment(x, attended, position, *crossed[index : index + 1])
        state.end(chunk)
        return x.reshape(shape)

    def crossed_by(self, source: mx.array) -> list[mx.array]:
        """Return the keys and values of every layer's cross attention, (2 B, H, S, head dim), all keys first.

        source: (B, S, dim), what is attended to, in the activations' type.
        """
        return [layer.cross_attention.keys_values(source) for layer in self.layers]

    def _make_segments(self) -> list[Callable[..., tuple[mx.array, ...]]]:
        """Return what lies before, between and after the attentions: all but the window, whose length changes.

        Each segment returns x, then queries, keys and values for the attention that follows. Between segments all
        positions of all rows are one axis, (B * T, dim): MLX would flatten and unflatten two around every matmul.
        """
        layers = self.layers

        def first(x: mx.array, position: Positions) -> tuple[mx.array, ...]:
            count = x.shape[1] if x.ndim == 3 else 1
            x = x.reshape(-1, x.shape[-1])
            return x, *layers[0].before_attention(x, position, count)

        def between(
            index: int, x: mx.array, attended: mx.array, position: Positions, *crossed: mx.array
        ) -> tuple[mx.array, ...]:
            x, update = layers[index].branches(_add_norm, x, attended, *crossed)
            x, normed = _add_norm(x, update, layers[index + 1].norm1)
            return x, *layers[index + 1].self_attn.project(normed, position, attended.shape[2])

        def last(x: mx.array, attended: mx.array, position: Positions, *crossed: mx.array) -> tuple[mx.array, ...]:
            x, update = layers[-1].branches(_add_norm, x, attended, *crossed)
            x = x + update
            return x, x  # nothing attends any more

        return [first, *(partial(between, index) for index in range(len(layers) - 1)), last]


def forget_traces(module: nn.Module) -> None:
    """Let all stacks within a module forget theirs."""
    for part in module.modules():
        if isinstance(part, Transformer):
            part.forget_traces()


def prepare_kernels(module: nn.Module, dtype: mx.Dtype) -> None:
    """Try our own kernels for all stacks within a module, on a GPU; dtype: of the activations."""
    for part in module.modules():
        if isinstance(part, Transformer) and part._config.norm == "rms_norm_f32":
            add_norm.prepare(part._config.dim, dtype)


Join = Callable[[mx.array, mx.array, nn.Module], tuple[mx.array, mx.array]]
"""(x, branch, norm) -> their sum, and the norm of it."""


def _add_then_norm(x: mx.array, branch: mx.array, norm: nn.Module) -> tuple[mx.array, mx.array]:
    """Add a branch and norm the sum, for training, too."""
    x = x + branch
    return x, norm(x)


def _add_norm(x: mx.array, branch: mx.array, norm: nn.Module) -> tuple[mx.array, mx.array]:
    """Do the same in one kernel where there is one that was tried; it has no gradient."""
    if isinstance(norm, RMSNorm):
        return add_norm.add_norm(x, branch, norm.weight, norm.eps)
    return _add_then_norm(x, branch, norm)


Positions = tuple[mx.array, ...]
"""Of queries, keys and values of all rows, (3 B,) int32; or cosines and sines of them, see `rope.angles`."""


def _rope_positions(chunk: Chunk, batch: int, config: TransformerConfig) -> Positions:
    together = _together(chunk.count, config)
    positions = [chunk.position] * (2 * batch) + [0] * batch
    if not config.rotates or not rope.use_table() or chunk.count > LONGEST_TABLE:
        return (mx.array(positions, mx.int32),)
    if together:
        return tuple(table[:, None, None] for table in rope.angles(config, positions))
    return rope.angles(config, range(chunk.position, chunk.position + chunk.count))


def _together(count: int, config: TransformerConfig) -> bool:
    """Whether queries, keys and values are entries of a batch, see `Attention.project`."""
    return count == 1 and config.kv_repeat == 1


class TransformerLayer(nn.Module):
    """Pre-norm attention, then pre-norm feed-forward, each added to the stream."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.norm1 = make_norm(config.norm, config.dim)
        self.norm2 = make_norm(config.norm, config.dim)
        self.self_attn = Attention(config)
        if config.gated:
            self.gating = GatedFeedForward(config.dim, config.ffn_hidden)
        else:
            self.linear1 = Linear(config.dim, config.ffn_hidden)
            self.linear2 = Linear(config.ffn_hidden, config.dim)
        if config.layer_scale:
            self.layer_scale_1 = LayerScale(config.dim)
            self.layer_scale_2 = LayerScale(config.dim)
        if config.cross_attention:
            self.norm_cross = nn.LayerNorm(config.dim, eps=1e-5)  # whatever the other norms are
            self.cross_attention = CrossAttention(config)
        self._gated = config.gated
        self._scaled = config.layer_scale

    def before_attention(self, x: mx.array, position: Positions, count: int = 1) -> tuple[mx.array, ...]:
        """x: (B, T, dim), or (B * T, dim) with count = T. Returns as `Attention.project`."""
        return self.self_attn.project(self.norm1(x), position, count)

    def after_attention(self, x: mx.array, attended: mx.array, crossed: mx.array | None = None) -> mx.array:
        """x: (B, T, dim) or (B * T, dim), the layer's input. attended: (B, H, T, head dim). Returns like x.

        crossed: of this layer's cross attention, if it has one; see `Transformer.crossed_by`.
        """
        x, update = self.branches(_add_then_norm, x, attended, crossed)
        return x + update

    def branches(
        self, join: Join, x: mx.array, attended: mx.array, crossed: mx.array | None = None
    ) -> tuple[mx.array, mx.array]:
        """As `after_attention`, but the last branch is not yet added: the next norm may be of that sum.

        join: how to add a branch and norm the sum. Returns the stream and the feed-forward's branch, like x.
        """
        update = self.self_attn.merge(attended, x.shape)
        update = self.layer_scale_1(update) if self._scaled else update
        if crossed is not None:
            x = x + update
            update = self.cross_attention(self.norm_cross(x), crossed)
        x, normed = join(x, update, self.norm2)
        update = self._feed_forward(normed)
        return x, self.layer_scale_2(update) if self._scaled else update

    def _feed_forward(self, x: mx.array) -> mx.array:
        if self._gated:
            return self.gating(x)
        return self.linear2(gelu(self.linear1(x)))


class Attention(nn.Module):
    """The projections around causal self-attention, with shared key and value heads and rotary positions."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        heads = config.num_heads + 2 * config.num_kv_heads
        self.in_proj = Linear(config.dim, heads * config.head_dim)
        self.out_proj = Linear(config.num_heads * config.head_dim, config.dim)
        self._config = config

    def project(self, x: mx.array, position: Positions, count: int = 1) -> tuple[mx.array, ...]:
        """x: (B, T, dim), or (B * T, dim) with count = T. position: from `_rope_positions`.

        Returns queries (B, H, T, head dim), keys and values (B, Hkv, T, head dim) each, or both in one array,
        (2 B, Hkv, T, head dim), the keys of all rows first.
        """
        config = self._config
        T = x.shape[1] if x.ndim == 3 else count
        B = x.shape[0] if x.ndim == 3 else x.shape[0] // T
        H, Hkv, D = config.num_heads, config.num_kv_heads, config.head_dim
        qkv = self.in_proj(x)  # (..., (H + 2 Hkv) D)
        if _together(T, config):
            # Queries, keys and values as entries of a batch: values are rotated by position 0, that is not at all,
            # so that keys and values stay one array and one write stores both.
            if B > 1:
                qkv = qkv.reshape(B, 3, -1).swapaxes(0, 1)
            qkv = qkv.reshape(3 * B, H, 1, D)
            if config.rotates:
                qkv = self._rotate(qkv, position, position[0])
            return tuple(mx.split(qkv, [B]))
        qkv = qkv.reshape(B, T, H + 2 * Hkv, D).transpose(0, 2, 1, 3)
        qk, values = qkv[:, : H + Hkv], qkv[:, H + Hkv :]
        if config.rotates:
            qk = self._rotate(qk, position, position[0][0])
        return qk[:, :H], qk[:, H:], values

    def _rotate(self, x: mx.array, position: Positions, offset: mx.array) -> mx.array:
        """Rotate (n, heads, T, head dim): by a table if `position` is one, else by MLX, from `offset` on."""
        config = self._config
        if len(position) == 2:
            return rope.rotate(x, position, config)
        traditional, base = config.rope == "rope", config.max_period
        return mx.fast.rope(x, config.head_dim, traditional=traditional, base=base, scale=1.0, offset=offset)

    def merge(self, attended: mx.array, shape: tuple[int, ...]) -> mx.array:
        """(B, H, T, head dim) -> shape, (B, T, dim) or (B * T, dim). Where it is a part, H are its heads."""
        positions_first = attended if attended.shape[2] == 1 else attended.transpose(0, 2, 1, 3)
        return self.out_proj(positions_first.reshape(*shape[:-1], -1))


class CrossAttention(nn.Module):
    """Attention over vectors that stay the same for a whole stream; nothing is masked, nothing rotated.

    Source: moshi/modules/transformer.py `StreamingMultiheadAttention`, `cross_attention`.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.q_proj = Linear(config.dim, config.dim)
        self.k_proj = Linear(config.dim, config.dim)
        self.v_proj = Linear(config.dim, config.dim)
        self.out_proj = Linear(config.dim, config.dim)
        self._config = config

    def keys_values(self, source: mx.array) -> mx.array:
        """(B, S, dim) -> (2 B, H, S, head dim), the keys of all rows first."""
        return mx.concatenate([self._heads(self.k_proj(source)), self._heads(self.v_proj(source))])

    def __call__(self, x: mx.array, keys_values: mx.array) -> mx.array:
        """x: (B, T, dim) or (B * T, dim). keys_values: (2 B, H, S, head dim). Returns like x."""
        keys, values = mx.split(keys_values, 2)
        queries = self._heads(self.q_proj(x).reshape(len(keys), -1, x.shape[-1]))
        scale = self._config.head_dim**-0.5
        attended = mx.fast.scaled_dot_product_attention(queries, keys, values, scale=scale)
        return self.out_proj(attended.transpose(0, 2, 1, 3).reshape(x.shape))

    def _heads(self, x: mx.array) -> mx.array:
        B, T, _ = x.shape
        return x.reshape(B, T, self._config.num_heads, self._config.head_dim).transpose(0, 2, 1, 3)


class GatedFeedForward(nn.Module):
    """Feed-forward gated by SiLU, (..., dim) -> (..., dim); in `linear_in` the gate's half comes first."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.linear_in = Linear(dim, 2 * hidden)
        self.linear_out = Linear(hidden, dim)

    def __call__(self, x: mx.array) -> mx.array:
        gate, value = mx.split(self.linear_in(x), 2, axis=-1)
        return self.linear_out(gate * mx.sigmoid(gate) * value)  # SiLU, but not compiled as MLX's own


class LayerScale(nn.Module):
    """A learned factor per channel of a residual branch, (..., dim) -> (..., dim)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.scale = mx.ones((dim,))

    def __call__(self, x: mx.array) -> mx.array:
        return x * self.scale
