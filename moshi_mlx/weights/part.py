"""The weights of one process of several that share a temporal transformer: which bytes of a file they are.

A layer is cut along its outputs (rows) or its inputs (columns); quantized columns at the borders of groups. The
first process also holds everything beside the temporal transformer, the others nothing of it.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from moshi_mlx.errors import ConfigError
from moshi_mlx.models.config import LmConfig, TransformerConfig
from moshi_mlx.models.layers import parameters
from moshi_mlx.models.lm import Lm
from moshi_mlx.models.split import Part, SplitTransformer, part_config
from moshi_mlx.weights.key_map import Origin
from moshi_mlx.weights.lm_weights import LmWeights
from moshi_mlx.weights.safetensors import ITEM_BYTES, TensorInfo, read_columns, read_rows

_SHARED = "transformer."  # what the name of a parameter of the temporal transformer begins with
_LAYER = re.compile(r"transformer\.layers\.\d+\.(.+)\.\w+")


@dataclass(frozen=True)
class Cut:
    """What one process holds of a layer's arrays.

    rows: stretches of outputs, None for all. columns: of inputs, None for all; inputs: how many there are.
    """

    rows: tuple[slice, ...] | None = None
    columns: slice | None = None
    inputs: int = 0

    def columns_of(self, tensor: TensorInfo) -> slice | None:
        """Return the columns of an array as it is stored: numbers, words of packed ones, or a group's scale each.

        Raises ConfigError where a group would be cut.
        """
        if self.columns is None:
            return None
        width = tensor.shape[-1]
        ends = [divmod(end * width, self.inputs) for end in (self.columns.start, self.columns.stop)]
        if any(rest for _, rest in ends):
            raise ConfigError(
                f"{self.inputs} inputs, quantized in groups of {self.inputs // width}, cannot be cut "
                "between the heads of as many processes; start fewer"
            )
        return slice(ends[0][0], ends[1][0])

    def nbytes(self, tensor: TensorInfo) -> int:
        """Return the bytes of this cut of a tensor."""
        rows = tensor.shape[0] if self.rows is None else sum(each.stop - each.start for each in self.rows)
        columns = self.columns_of(tensor)
        rest = tensor.shape[1:] if columns is None else (columns.stop - columns.start,)
        return ITEM_BYTES[tensor.dtype] * rows * math.prod(rest)

    def read(self, tensor: TensorInfo) -> np.ndarray:
        """Read this cut of a tensor from its file, and where that holds it as it is used, nothing else of it."""
        columns = self.columns_of(tensor)
        if columns is not None:
            return read_columns(tensor, columns.start, columns.stop)
        rows = self.rows or (slice(0, tensor.shape[0]),)
        return np.concatenate([read_rows(tensor, each.start, each.stop) for each in rows])


def cut(name: str, config: TransformerConfig, part: Part, unit: int) -> Cut:
    """Return what one process holds of a parameter of the temporal transformer.

    name: its MLX name. unit: feed-forward channels that stay together, as in `part_config`.
    """
    match = _LAYER.fullmatch(name)
    layer = match[1] if match else ""
    hidden, channels = config.ffn_hidden, part.of(config.ffn_hidden, unit)
    if layer == "self_attn.in_proj":  # all queries, all keys, all values
        counts = (config.num_heads, config.num_kv_heads, config.num_kv_heads)
        starts = (0, config.num_heads, config.num_heads + config.num_kv_heads)
        own = [_moved(part.of(count), start) for count, start in zip(counts, starts, strict=True)]
        return Cut(rows=tuple(_scaled(heads, config.head_dim) for heads in own))
    if layer == "self_attn.out_proj":
        return Cut(columns=_scaled(part.of(config.num_heads), config.head_dim), inputs=config.dim)
    if layer == "gating.linear_in":  # all gates, all values
        return Cut(rows=(channels, _moved(channels, hidden)))
    if layer == "linear1":
        return Cut(rows=(channels,))
    if layer in ("gating.linear_out", "linear2"):
        return Cut(columns=channels, inputs=hidden)
    return Cut()


class PartWeights(LmWeights):
    """A weights file of which one process holds its part. Arguments and errors as of `LmWeights`.

    Raises ConfigError, too, for a model that cannot be shared by so many processes.
    """

    def __init__(self, path: Path, config: LmConfig, block: Mapping[str, Any] | None, part: Part) -> None:
        self.part = part
        super().__init__(path, config, block)
        self._config_of_part = part_config(config.transformer, part, self._unit)
        for origin, how in self._cuts.items():
            how.columns_of(self.tensors[origin.key])

    @property
    def nbytes(self) -> int:
        """Bytes that loading reads and puts into memory."""
        return self.shared_bytes + sum(
            self.tensors[origin.key].nbytes // origin.parts
            for origin in set(self._origins.values())
            if origin not in self._cuts
        )

    @property
    def shared_bytes(self) -> int:
        """Those of them that are of the temporal transformer."""
        return sum(how.nbytes(self.tensors[origin.key]) for origin, how in self._cuts.items())

    @property
    def fingerprint(self) -> str:
        """What tells these weights from others of the same shapes: a digest of the first row of every array."""
        digest = hashlib.sha256()
        for key in sorted(origin.key for origin in self._cuts):
            tensor = self.tensors[key]
            digest.update(f"{key} {tensor}".encode())
            digest.update(read_rows(tensor, 0, 1).tobytes())
        return digest.hexdigest()

    def _to_fill(self) -> Lm:
        lm = self._skeleton()
        lm.transformer = SplitTransformer(self._config_of_part, self.part)
        schemes = {path.removeprefix(_SHARED): how for path, how in self.schemes.items()}
        nn.quantize(lm.transformer, class_predicate=lambda path, _: path in schemes and schemes[path].block())
        return lm

    def _arrays(
        self, origins: Collection[Origin], found: dict[Origin, mx.array]
    ) -> Iterator[tuple[Origin, mx.array]]:
        for origin, how in self._cuts.items():
            tensor = self.tensors[origin.key]
            array = mx.array(how.read(tensor))
            array = array.view(mx.bfloat16) if tensor.dtype == "BF16" else array
            found[origin] = array.reshape(-1) if origin.flat else array
            yield origin, found[origin]
        yield from super()._arrays([origin for origin in origins if origin not in self._cuts], found)

    @cached_property
    def _origins(self) -> dict[str, Origin]:
        if self.part.rank == 0:
            return super()._origins
        names = parameters(self._skeleton())
        return {name: self.stored(name) for name in names if name.startswith(_SHARED)}

    @cached_property
    def _cuts(self) -> dict[Origin, Cut]:
        config, unit = self.config.transformer, self._unit
        return {
            origin: cut(name, config, self.part, unit)
            for name, origin in self._origins.items()
            if name.startswith(_SHARED)
        }

    @property
    def _unit(self) -> int:
        """Feed-forward channels that stay together: whole groups of every layer that reads them."""
        ends = (".gating.linear_out", ".linear2")
        groups = [
            how.group_size
            for path, how in self.schemes.items()
            if path.startswith(_SHARED) and path.endswith(ends)
        ]
        return math.lcm(1, *groups)


def _moved(stretch: slice, by: int) -> slice:
    return slice(stretch.start + by, stretch.stop + by)


def _scaled(stretch: slice, by: int) -> slice:
    return slice(stretch.start * by, stretch.stop * by)
