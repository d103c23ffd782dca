"""LoRA adapters: checked against a model, and merged into its weights in float32.

An adapter holds `<module>.lora_A.weight` (rank, in) and `<module>.lora_B.weight` (out, rank) under PyTorch's
names; what it stands for is W + scaling * B A. Whatever else it holds takes the place of the model's own
(embeddings that were trained as well). Source: moshi/modules/lora.py; moshi-finetune, finetune/checkpointing.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from moshi_mlx.errors import CheckpointError, fetch_again, some
from moshi_mlx.models.config import LmConfig
from moshi_mlx.weights.key_map import Origin, torch_origin
from moshi_mlx.weights.lm_weights import parameter_shapes
from moshi_mlx.weights.safetensors import TensorInfo, from_bits, read_header, read_rows

_DTYPES = ("F32", "F16", "BF16")


@dataclass(frozen=True)
class _Pair:
    """The factors of one parameter: the `part`-th of `parts` blocks of the rows of both."""

    down: TensorInfo  # (parts x rank, in)
    up: TensorInfo  # (parts x out, rank)
    part: int
    parts: int


class Adapter:
    """A LoRA adapter that fits a model; nothing but its header has been read yet.

    config: of the model. pairs, replaced: MLX name of a parameter -> what the adapter has for it.
    Raises CheckpointError, with the tensor, if the adapter was made for another model.
    """

    def __init__(self, path: Path, scaling: float, config: LmConfig) -> None:
        self.path, self.scaling = path, scaling
        tensors = read_header(path)
        modules = {key.removesuffix(".lora_A.weight") for key in tensors if key.endswith(".lora_A.weight")}
        if not modules:
            raise CheckpointError(f"{path} is not a LoRA adapter (no lora_A): its tensors are {some(tensors)}")
        present = {*tensors, *(f"{module}.weight" for module in modules)}
        self.pairs: dict[str, _Pair] = {}
        self.replaced: dict[str, tuple[TensorInfo, Origin]] = {}
        used: set[str] = set()
        for name, shape in parameter_shapes(config).items():
            source = torch_origin(name, config, present)
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
        """Return whether the adapter changes a parameter."""
        return name in self.pairs or name in self.replaced

    def merge(self, name: str, rows: np.ndarray, start: int = 0) -> np.ndarray:
        """Return W + scaling * B A, in float32, for a parameter's rows from `start` on. rows: float32."""
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
        self, tensors: Mapping[str, TensorInfo], keys: tuple[str, str], source: Origin, shape: tuple[int, ...]
    ) -> _Pair:
        if keys[1] not in tensors:
            raise CheckpointError(f"{self.path} has {keys[0]} but no {keys[1]}; {fetch_again(self.path)}")
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


def _float32(tensor: TensorInfo, start: int = 0, stop: int | None = None) -> np.ndarray:
    rows = read_rows(tensor, start, stop)
    return from_bits(rows) if tensor.dtype == "BF16" else rows.astype(np.float32)
