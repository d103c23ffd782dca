"""The language model: streams of tokens in, a text token and the codes of one frame out.

Attribute names equal the keys of Kyutai's MLX checkpoints. Source: Moshi paper §3.4; moshi/models/lm.py `LMModel`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from moshi_mlx.errors import ConfigError
from moshi_mlx.models.cache import KVCache
from moshi_mlx.models.config import LmConfig, LutConfig
from moshi_mlx.models.depth import DepthTransformer
from moshi_mlx.models.layers import Embedding, Linear, keep_transposes, make_norm, stack_rows
from moshi_mlx.models.transformer import Transformer


@dataclass
class LmState:
    """Everything the model remembers of the conversations in a batch."""

    temporal: KVCache
    depth: list[mx.array]  # see `DepthTransformer.new_buffers`; empty for models without

    def arrays(self) -> list[mx.array]:
        """Every array held, to be evaluated together with what a step returns."""
        return self.temporal.arrays() + self.depth

    def rewind(self) -> None:
        """Make all rows forget, as if new."""
        self.temporal.rewind()

    def reset_row(self, row: int) -> None:
        """Make one row forget its conversation, without touching the others."""
        self.temporal.reset_row(row)


class Lm(nn.Module):
    """Temporal transformer over sums of embeddings, text head, and depth transformer.

    dtype: of the activations; float32 unless given.
    """

    def __init__(self, config: LmConfig, dtype: mx.Dtype | None = None) -> None:
        super().__init__()
        dim = config.transformer.dim
        self.text_emb = Embedding(config.text_card + 1, dim)
        self.audio_embs = [Embedding(config.card + 1, dim) for _ in range(config.n_q)]
        self.transformer = Transformer(config.transformer)
        self.out_norm = make_norm(config.transformer.norm, dim)
        self.text_linear = Linear(dim, config.text_card)
        if config.depth:
            self.depformer = DepthTransformer(config, config.depth)
        if config.extra_heads:
            self.extra_heads = [Linear(dim, config.extra_heads_dim) for _ in range(config.extra_heads)]
        if config.conditioners:
            self.condition_provider = ConditionProvider(config.conditioners, dim)
        self._config = config
        self.activation_dtype = dtype or mx.float32
        self._look_up: Callable[[mx.array], mx.array] | None = None  # in all audio tables at once, see `fuse`
        self._first_rows = mx.arange(config.n_q)[:, None] * (config.card + 1)  # of each stream there

    @property
    def config(self) -> LmConfig:
        return self._config

    def new_state(self, batch: int = 1, kv_bits: int | None = None, context: int | None = None) -> LmState:
        """Return the state of fresh conversations, one a row.

        kv_bits: 8 keeps the temporal transformer's window in int8.
        context: positions in that window, those of the config unless given.
        """
        dtype = self.activation_dtype
        return LmState(
            self.transformer.new_state(batch, dtype=dtype, kv_bits=kv_bits, context=context),
            self.depformer.new_buffers(batch, dtype) if self.config.depth else [],
        )

    def embed(self, tokens: mx.array) -> mx.array:
        """Sum of the embeddings of all streams.

        tokens: (B, 1 + n_q, T) int32, [text, audio streams]; -1 embeds to exactly zero. Returns (B, T, dim).
        """
        total = self.text_emb(tokens[:, 0]).astype(self.activation_dtype)
        if self._look_up:
            ids = tokens[:, 1:]
            ids = mx.where(ids < 0, ids, ids + self._first_rows)
            return total + mx.sum(self._look_up(ids).astype(self.activation_dtype), axis=1)
        for stream, table in enumerate(self.audio_embs):
            total = total + table(tokens[:, stream + 1]).astype(self.activation_dtype)
        return total

    def fuse(self) -> None:
        """Lay weights that are used together side by side, so that one kernel serves them; nothing is held twice.

        Only once the weights are final: what is loaded or quantized later would go unseen.
        """
        if self._look_up:
            return
        mx.eval(self._first_rows)
        table = stack_rows(self.audio_embs)
        self._look_up = table.__call__ if table else None
        if self.config.depth:
            self.depformer.fuse()
        keep_transposes(self)

    def temporal(
        self,
        tokens: mx.array,
        state: LmState,
        condition: mx.array | None = None,
        rows: np.ndarray | None = None,
    ) -> mx.array:
        """Push T positions through the temporal transformer.

        tokens: (B, 1 + n_q, T) int32. condition: (1 | B, 1, dim), added to every position.
        rows: (B,) bool, the rows that run, all unless given. Returns the normed hidden state (B, T, dim).
        """
        x = self.embed(tokens)
        if condition is not None:
            x = x + condition.astype(x.dtype)
        return self.out_norm(self.transformer(x, state.temporal, rows))

    def condition(self, values: Mapping[str, str | None] | None = None) -> mx.array | None:
        """The vector that conditioners add to every position, (1, 1, dim); None for models without any.

        values: name -> value; a conditioner that is not named uses its learned padding.
        Raises ConfigError for an unknown name or value.
        """
        values = values or {}
        if unknown := set(values) - set(self.config.conditioners):
            known = ", ".join(self.config.conditioners) or "none"
            raise ConfigError(f"this model has no conditioner {sorted(unknown)[0]!r} (it has: {known})")
        if not self.config.conditioners:
            return None
        return self.condition_provider(values)


class ConditionProvider(nn.Module):
    """All conditioners of a model; their vectors are added up."""

    def __init__(self, conditioners: Mapping[str, LutConfig], dim: int) -> None:
        super().__init__()
        self.conditioners = {name: LutConditioner(lut, dim) for name, lut in conditioners.items()}

    def __call__(self, values: Mapping[str, str | None]) -> mx.array:
        """Returns (1, 1, dim) float32."""
        vectors = [conditioner(name, values.get(name)) for name, conditioner in self.conditioners.items()]
        return mx.sum(mx.stack(vectors), axis=0)


class LutConditioner(nn.Module):
    """One learned vector per value. Source: moshi/conditioners/text.py `LUTConditioner`."""

    def __init__(self, lut: LutConfig, dim: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(lut.n_bins + 1, lut.dim)
        self.output_proj = Linear(lut.dim, dim)
        self.learnt_padding = mx.zeros((1, 1, dim))
        self._values = lut.possible_values

    def __call__(self, name: str, value: str | None) -> mx.array:
        if value is None:
            return self.learnt_padding.astype(mx.float32)
        if value not in self._values:
            raise ConfigError(
                f"conditioner {name!r} has no value {value!r}; one of {', '.join(self._values)} expected"
            )
        index = mx.array([[self._values.index(value)]])
        return self.output_proj(self.embed(index)).astype(mx.float32)
