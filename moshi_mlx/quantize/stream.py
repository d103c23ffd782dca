"""A model's tensors in the precision of a recipe, made one layer at a time from a file.

What a recipe makes of a model follows from its config alone (`plan`), so a file's header can be written before
its first tensor is made, and no more than one layer is ever in memory. Weights are quantized from bfloat16, as
Kyutai's are: what `quantize_lm` makes of the loaded bfloat16 model, bit by bit.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from moshi_mlx.errors import QuantizationError, some
from moshi_mlx.models.config import LmConfig
from moshi_mlx.models.lm import Lm
from moshi_mlx.quantize.convert import quantize_lm
from moshi_mlx.quantize.levels import calibrated
from moshi_mlx.quantize.recipes import Recipe
from moshi_mlx.quantize.source import DenseSource
from moshi_mlx.weights.lm_weights import parameters
from moshi_mlx.weights.safetensors import TensorInfo
from moshi_mlx.weights.scheme import Scheme, main_scheme

BLOCK = 1 << 23  # weights quantized at once: 16 MB of bfloat16
_QUANTIZED = ("weight", "scales", "biases")
_DTYPES = {mx.uint32: "U32", mx.uint8: "U8"}  # all else is bfloat16
_NUMPY = {"U32": np.uint32, "U8": np.uint8, "BF16": np.uint16}


@dataclass(frozen=True)
class Plan:
    """What a recipe makes of a model.

    layout: name -> type and shape of every tensor. schemes: layer -> how it is quantized.
    block: what the config says of it, None for a dense model.
    undivided: layers that the recipe would quantize, but whose width is no multiple of the group.
    """

    layout: Mapping[str, TensorInfo]
    schemes: Mapping[str, Scheme]
    block: Mapping[str, Any] | None
    undivided: tuple[str, ...]

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.layout.values())

    @property
    def dense(self) -> tuple[str, ...]:
        """The parameters that stay dense: norms, what the recipe leaves out, and what is undivided."""
        return tuple(name for name in self.layout if name.rpartition(".")[0] not in self.schemes)


def plan(config: LmConfig, recipe: Recipe) -> Plan:
    """Plan a model's tensors. Raises QuantizationError if the recipe fits no layer, or names one that is not."""
    lm = Lm(config)  # lazy, as all that follows: only shapes are looked at
    widths = {path: layer["weight"].shape[-1] for path, layer in lm.named_modules() if _can(layer)}
    if unknown := [path for path in recipe.layers if "*" not in path and path not in widths]:
        raise QuantizationError(f"recipe {recipe} names {some(unknown)}, which this model does not have")
    wanted = {path: how for path in widths if (how := recipe.how(path))}
    default = recipe.scheme or main_scheme(wanted)
    block = quantize_lm(lm, default, recipe.predicate) if default and wanted else None
    schemes = {
        path: Scheme(layer.bits, layer.group_size, layer.mode)
        for path, layer in lm.named_modules()
        if path in wanted and "scales" in layer
    }
    if wanted and not schemes:
        found = some(map(str, sorted(set(widths.values()))), 9)
        groups = " or ".join(map(str, sorted({how.group_size for how in wanted.values()})))
        raise QuantizationError(
            f"groups of {groups} divide nothing in this model, whose layers are {found} wide; choose smaller ones"
        )
    layout = {
        name: TensorInfo(_DTYPES.get(array.dtype, "BF16"), array.shape) for name, array in parameters(lm).items()
    }
    undivided = [path for name in layout if (path := name.rpartition(".")[0]) in wanted and path not in schemes]
    return Plan(layout, schemes, block, tuple(dict.fromkeys(undivided)))


def arrays(
    plan: Plan, source: DenseSource, importance: Mapping[str, np.ndarray] | None = None
) -> Iterator[np.ndarray]:
    """The tensors of a plan in the order of its layout; bfloat16 as its bits.

    importance: layer -> how much each of its inputs matters; calibrates affine levels (see `levels`).
    A layer that is stored as the plan wants it is copied. Raises CheckpointError for what cannot be read.
    """
    made: dict[str, np.ndarray] = {}
    for name in plan.layout:
        if name not in made:
            made = _layer(plan, source, name, importance)
            mx.clear_cache()
        yield made.pop(name)


def _layer(
    plan: Plan, source: DenseSource, name: str, importance: Mapping[str, np.ndarray] | None
) -> dict[str, np.ndarray]:
    """A dense parameter, or all tensors of the quantized layer that it belongs to."""
    path, _, leaf = name.rpartition(".")
    scheme = plan.schemes.get(path) if leaf in _QUANTIZED else None
    names = [key for part in _QUANTIZED if (key := f"{path}.{part}") in plan.layout] if scheme else [name]
    dense = f"{path}.weight" if scheme else name
    adapted = source.lora is not None and source.lora.touches(dense)
    if scheme and source.weights.schemes.get(path) == scheme and not adapted:
        return {key: source.quantized_rows(key) for key in names}
    made = {key: np.empty(plan.layout[key].shape, _NUMPY[plan.layout[key].dtype]) for key in names}
    count, *rest = source.shapes[dense]
    block = max(1, BLOCK // math.prod(rest))
    for start in range(0, count, block):
        stop = min(start + block, count)
        bits = source.rows(dense, start, stop)
        parts = _quantize(bits, scheme, importance, path) if scheme else [bits]
        for array, part in zip(made.values(), parts, strict=True):
            array[start:stop] = part
    return made


def _quantize(
    bits: np.ndarray, scheme: Scheme, importance: Mapping[str, np.ndarray] | None, path: str
) -> list[np.ndarray]:
    weight = mx.array(bits).view(mx.bfloat16)
    if importance is not None and scheme.mode == "affine":
        parts = calibrated(weight, scheme, importance.get(path))
    else:
        parts = mx.quantize(weight, group_size=scheme.group_size, bits=scheme.bits, mode=scheme.mode)
    return [np.array(part.view(mx.uint16) if part.dtype == mx.bfloat16 else part) for part in parts]


def _can(layer: nn.Module) -> bool:
    """Whether `mlx.nn.quantize` would ask about a layer."""
    return hasattr(layer, "to_quantized") and not layer.children()
