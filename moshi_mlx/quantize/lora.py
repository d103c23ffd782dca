"""LoRA adapters: found, checked against a model, and merged into its weights in float32.

An adapter holds `<module>.lora_A.weight` (rank, in) and `<module>.lora_B.weight` (out, rank) under PyTorch's
names; what it stands for is W + scaling * B A. Whatever else it holds takes the place of the model's own
(embeddings that were trained as well). Source: moshi/modules/lora.py; moshi-finetune, finetune/checkpointing.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from moshi_mlx.checkpoint.places import find_place, locate
from moshi_mlx.errors import CheckpointError, ConfigError, some
from moshi_mlx.models.config import LmConfig
from moshi_mlx.models.config_reader import read_json
from moshi_mlx.weights.key_map import Source, torch_source
from moshi_mlx.weights.safetensors import TensorInfo, from_bits, read_header, read_rows

LORA_NAME = "lora.safetensors"
_DTYPES = ("F32", "F16", "BF16")
_KEYS = ("lora", "lora_rank", "lora_scaling", "lora_name")


@dataclass(frozen=True)
class _Pair:
    """The factors of one parameter: the `part`-th of `parts` blocks of the rows of both."""

    down: TensorInfo  # (parts x rank, in)
    up: TensorInfo  # (parts x out, rank)
    part: int
    parts: int


class Lora:
    """An adapter that fits a model.

    pairs, replaced: MLX name of a parameter -> what the adapter has for it.
    Raises CheckpointError, with the tensor, if the adapter was made for another model.
    """

    def __init__(
        self, path: Path, scaling: float, shapes: Mapping[str, tuple[int, ...]], config: LmConfig
    ) -> None:
        """shapes: of all parameters of the model, by their MLX names."""
        self.path, self.scaling = path, scaling
        tensors = read_header(path)
        modules = {key.removesuffix(".lora_A.weight") for key in tensors if key.endswith(".lora_A.weight")}
        if not modules:
            raise CheckpointError(f"{path} is not a LoRA adapter (no lora_A): its tensors are {some(tensors)}")
        present = {*tensors, *(f"{module}.weight" for module in modules)}
        self.pairs: dict[str, _Pair] = {}
        self.replaced: dict[str, tuple[TensorInfo, Source]] = {}
        used: set[str] = set()
        for name, shape in shapes.items():
            source = torch_source(name, config, present)
            module = source.key.removesuffix("_weight").removesuffix(".weight")
            if module in modules:
                keys = f"{module}.lora_A.weight", f"{module}.lora_B.weight"
                self.pairs[name] = self._pair(tensors, keys, source, shape)
            elif source.key in tensors:
                keys = (source.key,)
                self._check(source.key, tensors[source.key], source.stored_shape(shape))
                self.replaced[name] = tensors[source.key], source
            else:
                continue
            used.update(keys)
        if unknown := sorted(tensors.keys() - used):
            raise CheckpointError(
                f"{path} adapts {some(unknown)}, which this model does not have; it was made for another base"
            )

    def touches(self, name: str) -> bool:
        """Whether a parameter is another one with the adapter."""
        return name in self.pairs or name in self.replaced

    def merge(self, name: str, rows: np.ndarray, start: int = 0) -> np.ndarray:
        """W + scaling * B A of a parameter's rows from `start` on. rows: float32."""
        if name in self.replaced:
            tensor, source = self.replaced[name]
            if source.flat or rows.ndim != 2:
                return _float32(tensor).reshape(rows.shape)
            begin = source.part * (tensor.shape[0] // source.parts) + start
            return _float32(tensor, begin, begin + len(rows))
        if name not in self.pairs:
            return rows
        pair = self.pairs[name]
        rank, out = pair.down.shape[0] // pair.parts, pair.up.shape[0] // pair.parts
        down = _float32(pair.down, pair.part * rank, (pair.part + 1) * rank)
        begin = pair.part * out + start
        up = _float32(pair.up, begin, begin + len(rows))
        # numpy, not MLX: a GPU may multiply float32 in fewer bits, and MLX's BLAS is slow on CPUs.
        return rows + np.float32(self.scaling) * (up @ down)

    def _pair(
        self, tensors: Mapping[str, TensorInfo], keys: tuple[str, str], source: Source, shape: tuple[int, ...]
    ) -> _Pair:
        if keys[1] not in tensors:
            raise CheckpointError(f"{self.path} has {keys[0]} but no {keys[1]}; fetch it again")
        down, up = tensors[keys[0]], tensors[keys[1]]
        rank = up.shape[-1] if up.shape else 0
        self._check(keys[0], down, (rank * source.parts, shape[-1]))
        self._check(keys[1], up, (shape[0] * source.parts, rank))
        return _Pair(down, up, source.part, source.parts)

    def _check(self, key: str, tensor: TensorInfo, wanted: tuple[int, ...]) -> None:
        if tensor.shape != wanted:
            raise CheckpointError(
                f"{self.path}: {key} has shape {list(tensor.shape)}, {list(wanted)} expected; "
                "it was made for another base"
            )
        if tensor.dtype not in _DTYPES:
            raise CheckpointError(
                f"{self.path}: {key} is of type {tensor.dtype}, one of {', '.join(_DTYPES)} expected"
            )


def find_lora(
    name: str,
    shapes: Mapping[str, tuple[int, ...]],
    config: LmConfig,
    settings: Mapping[str, Any],
    *,
    scaling: float | None = None,
    offline: bool = False,
) -> Lora:
    """Find an adapter and the config beside it, and check both against the model.

    name: folder, file or hub repository. settings: the model's config.json.
    scaling: unless given, what the adapter's config says.
    Raises CheckpointError or ConfigError.
    """
    place, own_file = find_place(name, offline)
    file = place.find("config.json")
    own = read_json(file) if file else {}
    if not isinstance(own.get("lora_name"), str | None):
        raise ConfigError(f"config field 'lora_name' is {own['lora_name']!r}: a file name expected")
    path = locate(place, own_file or own.get("lora_name") or LORA_NAME, offline)
    if scaling is None:
        scaling = own.get("lora_scaling")
        if not isinstance(scaling, int | float) or isinstance(scaling, bool):
            where = f"{file} says no lora_scaling" if file else f"there is no config.json beside {path}"
            raise ConfigError(f"{where}; give --lora-scaling (moshi-finetune's default is 2)")
    _check_same_base(own, settings, config, path)
    return Lora(path, scaling, shapes, config)


def _check_same_base(own: Mapping[str, Any], settings: Mapping[str, Any], config: LmConfig, path: Path) -> None:
    """An adapter's config is its base's, with the adapter's keys added."""
    if own.get("dim") is not None:
        theirs = LmConfig.from_dict({key: value for key, value in own.items() if key not in _KEYS})
        if theirs != config:
            different = [key for key in vars(config) if getattr(theirs, key) != getattr(config, key)]
            raise CheckpointError(
                f"{path} was made for another base: its config differs from this model's in {some(different)}"
            )
    ids = own.get("model_id"), settings.get("model_id")
    if all(ids) and ids[0] != ids[1]:
        raise CheckpointError(f"{path} was made for another base: model_id {ids[0]}, but this model's is {ids[1]}")


def _float32(tensor: TensorInfo, start: int = 0, stop: int | None = None) -> np.ndarray:
    rows = read_rows(tensor, start, stop)
    return from_bits(rows) if tensor.dtype == "BF16" else rows.astype(np.float32)
