"""Streaming transformer: the one stack behind the temporal transformer, each depth step, and Mimi.

Attribute names equal the checkpoints' keys. Source: moshi/modules/transformer.py, moshi/modules/gating.py.
"""

from functools import partial

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from moshi_mlx.models.cache import KVCache, Push
from moshi_mlx.models.config import TransformerConfig
from moshi_mlx.models.norm import make_norm


class Transformer(nn.Module):
    """A causal stack of layers over a sliding window of `config.context` positions."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self._config = config
        self.layers = [TransformerLayer(config) for _ in range(config.num_layers)]

    def new_state(self, batch: int = 1, step: int = 1, dtype: mx.Dtype = mx.float32) -> KVCache:
        """A fresh stream for `batch` rows.

        step: the most positions usually pushed at once; pushing more is right as well, only slower.
        dtype: of the activations, so also of the stored keys and values.
        """
        return KVCache(self._config, batch, step, dtype)

    def __call__(self, x: mx.array, state: KVCache, rows: np.ndarray | None = None) -> mx.array:
        """Push T positions, continuing the stream held in `state`.

        x: (B, T, dim). rows: (B,) bool, the rows that run; positions of the others are forgotten.
        Returns (B, T, dim).
        """
        push = state.begin(x.shape[1], rows)
        for index, layer in enumerate(self.layers):
            x = layer(x, state, index, push)
        state.end(push)
        return x


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
            self.linear1 = nn.Linear(config.dim, config.ffn_hidden, bias=False)
            self.linear2 = nn.Linear(config.ffn_hidden, config.dim, bias=False)
        if config.layer_scale:
            self.layer_scale_1 = LayerScale(config.dim)
            self.layer_scale_2 = LayerScale(config.dim)
        self._gated = config.gated
        self._scaled = config.layer_scale

    def __call__(self, x: mx.array, state: KVCache, index: int, push: Push) -> mx.array:
        update = self.self_attn(self.norm1(x), state, index, push)
        x = x + (self.layer_scale_1(update) if self._scaled else update)
        update = self._feed_forward(self.norm2(x))
        return x + (self.layer_scale_2(update) if self._scaled else update)

    def _feed_forward(self, x: mx.array) -> mx.array:
        if self._gated:
            return self.gating(x)
        return self.linear2(nn.gelu(self.linear1(x)))  # nn.gelu is the exact one (erf), as trained


class Attention(nn.Module):
    """Causal self-attention with fused projections, shared key/value heads and rotary positions."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        heads = config.num_heads + 2 * config.num_kv_heads
        self.in_proj = nn.Linear(config.dim, heads * config.head_dim, bias=False)
        self.out_proj = nn.Linear(config.dim, config.dim, bias=False)
        self._config = config

    def __call__(self, x: mx.array, state: KVCache, index: int, push: Push) -> mx.array:
        config = self._config
        B, T, _ = x.shape
        H, D = config.num_heads, config.head_dim
        qkv = self.in_proj(x).reshape(B, T, -1, D).transpose(0, 2, 1, 3)  # (B, H + 2 Hkv, T, D)
        qk, v = qkv[:, : -config.num_kv_heads], qkv[:, -config.num_kv_heads :]
        if config.rope != "none":
            qk = mx.fast.rope(
                qk,
                D,
                traditional=config.rope == "rope",
                base=config.max_period,
                scale=1.0,
                offset=push.position,
            )
        keys, values = state.extend(index, qk[:, H:], v, push)
        out = mx.fast.scaled_dot_product_attention(qk[:, :H], keys, values, scale=D**-0.5, mask=push.mask)
        return self.out_proj(out.transpose(0, 2, 1, 3).reshape(B, T, -1))


class GatedFeedForward(nn.Module):
    """SiLU-gated feed-forward; the gate's half comes first in `linear_in`."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.linear_in = nn.Linear(dim, 2 * hidden, bias=False)
        self.linear_out = nn.Linear(hidden, dim, bias=False)
        self._hidden = hidden

    def __call__(self, x: mx.array) -> mx.array:
        both = self.linear_in(x)
        return self.linear_out(_silu_gate(both[..., : self._hidden], both[..., self._hidden :]))


@partial(mx.compile, shapeless=True)
def _silu_gate(gate: mx.array, value: mx.array) -> mx.array:
    return nn.silu(gate) * value


class LayerScale(nn.Module):
    """A learned factor per channel on a residual branch."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.scale = mx.ones((dim,))

    def __call__(self, x: mx.array) -> mx.array:
        return x * self.scale
