"""A transformer of which several processes compute a part each: some heads, some feed-forward channels.

Every process has the whole stream x and the norms. Its part of an attention makes queries, keys and values of its
own heads and what they add to the stream; its part of a feed-forward likewise. What all parts add is summed.
Not here: which bytes of a file a part is (see `weights.part`), who tells whom what to do (see `distributed`).
Source: Shoeybi et al. 2019, Megatron-LM, §3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from moshi_mlx.errors import ConfigError
from moshi_mlx.models.cache import KVCache
from moshi_mlx.models.config import TransformerConfig
from moshi_mlx.models.transformer import Transformer, Window


@dataclass(frozen=True)
class Part:
    """The part of one process. rank: its number, from 0. size: how many processes there are."""

    rank: int
    size: int

    def of(self, count: int, unit: int = 1) -> slice:
        """Return this process's share of `count` things that only whole units of can be had."""
        units = count // unit
        return slice(units * self.rank // self.size * unit, units * (self.rank + 1) // self.size * unit)


@dataclass(frozen=True)
class PartConfig(TransformerConfig):
    """The config of one part: as many heads and feed-forward channels as it has, each as wide as in the whole."""

    whole_heads: int = 1

    @property
    def head_dim(self) -> int:
        """Channels of one head."""
        return self.dim // self.whole_heads


def part_config(config: TransformerConfig, part: Part, unit: int = 1) -> PartConfig:
    """Return the config of a part. unit: feed-forward channels that stay together.

    Raises ConfigError where there are not enough heads or channels for every process, or heads would be cut.
    """
    heads = config.num_kv_heads
    if heads % part.size:
        fitting = [str(count) for count in range(1, heads + 1) if heads % count == 0]
        kind = "heads" if config.kv_repeat == 1 else "heads of keys and values"
        raise ConfigError(
            f"a temporal transformer of {heads} {kind} cannot be shared by {part.size} processes; "
            f"start {' or '.join(fitting)}"
        )
    hidden = part.of(config.ffn_hidden, unit)
    if config.ffn_hidden // unit < part.size:
        raise ConfigError(
            f"a feed-forward of {config.ffn_hidden} channels in groups of {unit} cannot be shared by "
            f"{part.size} processes; start fewer"
        )
    if config.cross_attention:
        raise ConfigError("a model that attends to a voice cannot be shared by several processes; start one")
    whole = {field.name: getattr(config, field.name) for field in fields(TransformerConfig)}
    own = {"num_heads": config.num_heads // part.size, "ffn_hidden": hidden.stop - hidden.start}
    return PartConfig(**{**whole, **own}, whole_heads=config.num_heads)


class Summed(nn.Module):
    """A layer of which each process computes a part: what all parts make, added up.

    total: adds up an array of all processes.
    """

    def __init__(self, layer: nn.Module, total: Callable[[mx.array], mx.array]) -> None:
        super().__init__()
        self.layer = layer
        self._total = total

    def __call__(self, x: mx.array) -> mx.array:
        return self._total(self.layer(x))  # pyright: ignore[reportCallIssue]


class SplitTransformer(Transformer):
    """One part of a transformer; all processes call theirs with the same shapes, in the same order.

    Its arrays are those of `Transformer`, by the same names and smaller, until `share` is called.
    """

    def __init__(self, config: PartConfig, part: Part) -> None:
        super().__init__(config)
        self._first = part.rank == 0
        self._total: Callable[[mx.array], mx.array] | None = None

    @property
    def config(self) -> TransformerConfig:
        """What this part is."""
        return self._config

    def share(self, total: Callable[[mx.array], mx.array], window: Callable[..., KVCache] = KVCache) -> None:
        """Add up with the other processes from now on, once the weights are final.

        total: as of `Summed`. window: what makes a state, as `KVCache`.
        """
        self._total, self._window = total, window
        for layer in self.layers:
            feed_forward = (layer.gating, "linear_out") if layer._gated else (layer, "linear2")
            for module, name in ((layer.self_attn, "out_proj"), feed_forward):
                module[name] = Summed(module[name], total)

    def __call__(
        self, x: mx.array, state: Window, rows: np.ndarray | None = None, crossed: Sequence[mx.array] = ()
    ) -> mx.array:
        """As `Transformer`; the first process's x counts, of the others only its shape and type."""
        assert self._total, "share it first"
        x = self._total(x if self._first else mx.zeros_like(x))
        x = super().__call__(x, state, rows, crossed)
        # All sums are taken now: the others wait for each of them, also where nobody reads what comes out.
        mx.async_eval(x)
        return x
