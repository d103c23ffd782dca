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
from moshi_mlx.weights.key_map import Origin, is_unused, plain_names, torch_origin
from moshi_mlx.weights.lm_weights import parameter_shapes
from moshi_mlx.weights.safetensors import TensorInfo, from_bits, read_header, read_rows

LARGEST = 3.3895e38  # what bfloat16 holds; of float32 the last numbers would be rounded to infinity
_A, _B = ".lora_A.weight", ".lora_B.weight"
_DTYPES = ("F32", "F16", "BF16")


def _plain(key: str) -> str:
    """Return the name of the weight that a factor adapts."""
    return key.replace(_A, ".weight").replace(_B, ".weight")


@dataclass(frozen=True)
class _Pair:
    """The factors of one parameter: the `part`-th of `parts` blocks of the rows of both."""

    module: str
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
        tensors = plain_names(read_header(path), path)
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
                self.pairs[name] = self._pair(tensors, module, keys, source, shape)
            elif source.key in tensors:
                keys = (source.key,)
                self._check(source.key, tensors[source.key], source.stored_shape(shape))
                self.replaced[name] = tensors[source.key], source
            else:
                continue
            used.update(keys)
        unknown = [key for key in sorted(tensors.keys() - used) if not is_unused(_plain(key), config)]
        if unknown:
            raise CheckpointError(
                f"{path} adapts {some(unknown)}, which this model does not have; it was made for another base"
            )

    def touches(self, name: str) -> bool:
        """Return whether the adapter changes a parameter."""
        return name in self.pairs or name in self.replaced

    def merge(self, name: str, rows: np.ndarray, start: int = 0) -> np.ndarray:
        """Return W + scaling * B A, in float32, for a parameter's rows from `start` on. rows: float32.

        Raises CheckpointError if what the adapter has for it is infinite or NaN, and where it is too large for
        bfloat16 once it is merged.
        """
        if name in self.replaced:
            tensor, source = self.replaced[name]
            if source.flat or rows.ndim != 2:
                return self._float32(source.key, tensor).reshape(rows.shape)
            begin = source.part * (tensor.shape[0] // source.parts) + start
            return self._float32(source.key, tensor, begin, begin + len(rows))
        if name not in self.pairs:
            return rows
        pair = self.pairs[name]
        down, up = self.factors(name, start, len(rows))
        # numpy, not MLX: a GPU may multiply float32 in fewer bits, and MLX's BLAS is slow on CPUs.
        with np.errstate(over="ignore", invalid="ignore"):
            merged = rows + np.float32(self.scaling) * (up @ down)
        if not np.abs(merged).max(initial=0) <= LARGEST:
            raise CheckpointError(
                f"{self.path}: merging {pair.module} with a scaling of {self.scaling} gives weights that are too "
                "large to be stored; a smaller --lora-scaling, or another adapter"
            )
        return merged

    def factors(self, name: str, start: int = 0, count: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return A (rank, in) and B (count, rank) of a parameter's `count` rows from `start` on, in float32."""
        pair = self.pairs[name]
        rank, out = pair.down.shape[0] // pair.parts, pair.up.shape[0] // pair.parts
        down = self._float32(f"{pair.module}{_A}", pair.down, pair.part * rank, (pair.part + 1) * rank)
        begin = pair.part * out + start
        end = (pair.part + 1) * out if count is None else begin + count
        return down, self._float32(f"{pair.module}{_B}", pair.up, begin, end)

    def _pair(
        self,
        tensors: Mapping[str, TensorInfo],
        module: str,
        keys: tuple[str, str],
        source: Origin,
        shape: tuple[int, ...],
    ) -> _Pair:
        if keys[1] not in tensors:
            raise CheckpointError(f"{self.path} has {keys[0]} but no {keys[1]}; {fetch_again(self.path)}")
        down, up = tensors[keys[0]], tensors[keys[1]]
        rank = up.shape[-1] if up.shape else 0
        if not rank:
            raise CheckpointError(
                f"{self.path}: {keys[1]} has shape {list(up.shape)}, a rank of 0 that adapts nothing; "
                f"{fetch_again(self.path)}"
            )
        self._check(keys[0], down, (rank * source.parts, shape[-1]))
        self._check(keys[1], up, (shape[0] * source.parts, rank))
        return _Pair(module, down, up, source.part, source.parts)

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

    def _float32(self, key: str, tensor: TensorInfo, start: int = 0, stop: int | None = None) -> np.ndarray:
        rows = read_rows(tensor, start, stop)
        numbers = from_bits(rows) if tensor.dtype == "BF16" else rows.astype(np.float32)
        if not np.isfinite(numbers).all():
            raise CheckpointError(
                f"{self.path}: {key} holds infinities or NaN; the adapter's training diverged or its file is "
                f"damaged: take an earlier checkpoint, or {fetch_again(self.path)}"
            )
        return numbers
