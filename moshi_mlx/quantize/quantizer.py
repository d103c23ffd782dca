"""Quantizing a language model: in memory, or from file to file, one layer at a time.

What a recipe makes of a model follows from its config alone (`conversion`), so a file's header can be written
before its first tensor is made, and no more than one layer is ever in memory. Weights are quantized from bfloat16,
as Kyutai's are: a file gets, bit by bit, what `quantize_lm` makes of the loaded bfloat16 model.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from moshi_mlx.errors import CheckpointError, QuantizationError, fetch_again, some
from moshi_mlx.models.config import LmConfig
from moshi_mlx.models.layers import dequantized, parameters
from moshi_mlx.models.lm import Lm
from moshi_mlx.quantize.levels import Loss, calibrated
from moshi_mlx.weights.adapter import Adapter
from moshi_mlx.weights.key_map import Origin
from moshi_mlx.weights.lm_weights import LmWeights, parameter_shapes
from moshi_mlx.weights.quantization import PARTS, Recipe, Scheme, main_scheme
from moshi_mlx.weights.safetensors import TensorInfo, all_finite, from_bits, read_rows, to_bits
from moshi_mlx.weights.values import all_zero, zeros_note

BLOCK = 1 << 23  # weights quantized at once: 16 MB of bfloat16
NVFP4_ERROR = 0.2  # of a layer's own size: it is .1 where all is well, and .14 just before scales underflow
_DTYPES = {mx.uint32: "U32", mx.uint8: "U8"}  # all else is bfloat16
_NUMPY = {"U32": np.uint32, "U8": np.uint8, "BF16": np.uint16}

Predicate = Callable[[str, nn.Module], bool | dict[str, Any]]
"""mlx-lm's `quant_predicate`: (layer path, layer) -> whether to quantize it, or how (bits, group_size, mode)."""


def quantize_lm(lm: Lm, scheme: Scheme, predicate: Predicate | None = None) -> dict[str, Any]:
    """Quantize every linear layer and embedding in place; return the config's `quantization` block.

    Layers whose width is no multiple of the group stay as they are, as do those `predicate` refuses.
    Arrays that several depth steps share stay shared where the steps are treated alike. Nothing is evaluated.
    Raises QuantizationError for a scheme that MLX does not have.
    """
    # This is mlx_lm.utils.quantize_model's convention, not a call of it: that one prints to stdout, which is for
    # data here, counts shared arrays once per user, and brings transformers along.
    block = scheme.block()
    chosen: dict[str, Any] = {}

    def choose(path: str, layer: nn.Module) -> bool | dict[str, Any]:
        if not hasattr(layer, "to_quantized"):
            return False
        wanted = predicate(path, layer) if predicate else True
        how = {**scheme.block(), **wanted} if isinstance(wanted, dict) else scheme.block()
        if not wanted or layer["weight"].shape[-1] % how["group_size"]:
            block[path] = False
            return False
        if how != scheme.block():
            block[path] = how
        chosen[path] = how
        return how

    sharing = _layers_by_weight(lm)
    try:
        nn.quantize(lm, class_predicate=choose)
    except ValueError as error:
        raise QuantizationError(f"MLX cannot quantize with {scheme}: {error}") from error
    layers = dict(lm.named_modules())
    for paths in sharing:
        firsts: dict[str, str] = {}  # of those that were treated alike
        for path in paths:
            first = firsts.setdefault(str(chosen.get(path)), path)
            for name, array in layers[first].items():
                if isinstance(array, mx.array) and name in layers[path]:
                    layers[path][name] = array
    return block


@dataclass(frozen=True)
class Conversion:
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
        """Bytes of all tensors."""
        return sum(tensor.nbytes for tensor in self.layout.values())

    @property
    def dense(self) -> tuple[str, ...]:
        """The parameters that stay dense: norms, what the recipe leaves out, and what is undivided."""
        return tuple(name for name in self.layout if name.rpartition(".")[0] not in self.schemes)


def conversion(config: LmConfig, recipe: Recipe) -> Conversion:
    """Work out what a recipe makes of a model, without making it.

    Raises QuantizationError if the recipe fits no layer, or names one that is not there.
    """
    lm = Lm(config)  # lazy, as all that follows: only shapes are looked at
    widths = quantizable(lm)
    recipe.check(widths)
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
            f"groups of {groups} do not divide any layer of this model, all {found} wide; choose smaller groups"
        )
    layout = {
        name: TensorInfo(_DTYPES.get(array.dtype, "BF16"), array.shape) for name, array in parameters(lm).items()
    }
    undivided = [path for name in layout if (path := name.rpartition(".")[0]) in wanted and path not in schemes]
    return Conversion(layout, schemes, block, tuple(dict.fromkeys(undivided)))


def converted(
    wanted: Conversion, source: "DenseReader", importance: Mapping[str, np.ndarray] | None = None
) -> Iterator[np.ndarray]:
    """Make the tensors of a conversion, in the order of its layout; bfloat16 as its bits.

    importance: layer -> how much each of its inputs matters; calibrates affine levels (see `levels`).
    A layer that is stored as it is wanted is copied. Raises CheckpointError for what cannot be read.
    """
    made: dict[str, np.ndarray] = {}
    for name in wanted.layout:
        if name not in made:
            made = _layer(wanted, source, name, importance)
            mx.clear_cache()
        yield made.pop(name)


class DenseReader:
    """Reads a checkpoint's parameters by rows, under their MLX names: as bfloat16, whatever they are stored as.

    adapter: merged on the way.
    """

    def __init__(self, weights: LmWeights, adapter: Adapter | None = None) -> None:
        self.weights, self._adapter = weights, adapter
        self.shapes = parameter_shapes(weights.config)
        self._zeros: dict[str, None] = {}  # keys of matrices that are nothing but zeros
        self._lost: dict[str, float] = {}  # layers whose scales underflowed -> error, of their own size

    @property
    def notes(self) -> list[str]:
        """What a person should know of the weights that were read: a line for every kind of doubt."""
        notes = [zeros_note(self.weights.path, self._zeros)] if self._zeros else []
        if self._lost:
            notes.append(
                f"the weights of {some(self._lost)} are too small for the scales of nvfp4 and come out up to "
                f"{max(self._lost.values()):.0%} wrong; give them another mode in a recipe file, such as mxfp4"
            )
        return notes

    def saw_zeros(self, name: str) -> None:
        """Remember that a parameter is nothing but zeros; norms and paddings may be."""
        if name.endswith(".weight") and len(self.shapes[name]) == 2:
            self._zeros[self.weights.stored(name).key] = None

    def saw_loss(self, path: str, error: float) -> None:
        """Remember how wrong a layer is whose scales underflowed, if that is more than nvfp4 always is."""
        if error > NVFP4_ERROR:
            self._lost[path] = error

    def adapted(self, name: str) -> bool:
        """Return whether an adapter changes a parameter."""
        return self._adapter is not None and self._adapter.touches(name)

    def rows(self, name: str, start: int, stop: int) -> np.ndarray:
        """Return rows [start, stop) of a parameter, the bits (uint16) of bfloat16.

        Raises CheckpointError for files that end too early and for weights that are no numbers.
        """
        path = name.rpartition(".")[0]
        source = self.weights.stored(name)
        tensor = self.weights.tensors[source.key]
        if name.endswith(".weight") and path in self.weights.schemes:
            wide = self._dequantized(path, start, stop)
        else:
            rows = _stored_rows(tensor, source, self.shapes[name], start, stop)
            if tensor.dtype == "BF16" and not self.adapted(name):
                return _checked(rows, tensor, source.key)
            wide = from_bits(rows) if tensor.dtype == "BF16" else rows.astype(np.float32)
        if self._adapter and self.adapted(name):
            if not np.isfinite(wide).all():
                raise _not_finite(tensor, source.key)  # before it could be taken for the adapter's
            wide = self._adapter.merge(name, wide, start)
        with np.errstate(over="ignore", invalid="ignore"):
            return _checked(to_bits(wide), tensor, source.key)

    def quantized_rows(self, name: str) -> np.ndarray:
        """Return a tensor of a quantized layer as it is stored; scales and biases as the bits of bfloat16."""
        tensor, rows = self._rows(name, 0, self.shapes[f"{name.rpartition('.')[0]}.weight"][0])
        if tensor.dtype in ("F32", "F16", "BF16"):
            return _checked(rows if tensor.dtype == "BF16" else to_bits(rows), tensor, name)
        return rows

    def _dequantized(self, path: str, start: int, stop: int) -> np.ndarray:
        """Return float32 rows of a quantized layer."""
        scheme, weights = self.weights.schemes[path], self.weights
        names = [f"{path}.{leaf}" for leaf in PARTS if weights.stored(f"{path}.{leaf}").key in weights.tensors]
        parts = [_as_mlx(rows, tensor.dtype) for tensor, rows in (self._rows(name, start, stop) for name in names)]
        return np.array(dequantized(parts, **scheme.block()))

    def _rows(self, name: str, start: int, stop: int) -> tuple[TensorInfo, np.ndarray]:
        """Return rows of a tensor of a quantized layer as they are stored, and the tensor that holds them."""
        source, rows = self.weights.stored(name), self.shapes[f"{name.rpartition('.')[0]}.weight"][0]
        tensor = self.weights.tensors[source.key]
        return tensor, read_rows(tensor, source.part * rows + start, source.part * rows + stop)


def _layer(
    wanted: Conversion, source: DenseReader, name: str, importance: Mapping[str, np.ndarray] | None
) -> dict[str, np.ndarray]:
    """Make a dense parameter, or all tensors of the quantized layer that it belongs to."""
    path, _, leaf = name.rpartition(".")
    scheme = wanted.schemes.get(path) if leaf in PARTS else None
    names = [key for part in PARTS if (key := f"{path}.{part}") in wanted.layout] if scheme else [name]
    dense = f"{path}.weight" if scheme else name
    if scheme and source.weights.schemes.get(path) == scheme and not source.adapted(dense):
        copied = {key: source.quantized_rows(key) for key in names}
        if all_zero([_as_mlx(array, wanted.layout[key].dtype) for key, array in copied.items()], scheme):
            source.saw_zeros(dense)
        return copied
    made = {key: np.empty(wanted.layout[key].shape, _NUMPY[wanted.layout[key].dtype]) for key in names}
    count, *rest = source.shapes[dense]
    block = max(1, BLOCK // math.prod(rest))
    is_zero, loss = True, Loss()
    for start in range(0, count, block):
        stop = min(start + block, count)
        bits = source.rows(dense, start, stop)
        is_zero = is_zero and not (bits & 0x7FFF).any()
        parts = _quantize(bits, scheme, importance, path) if scheme else [bits]
        if scheme and scheme.mode == "nvfp4":
            loss.add(bits, parts, scheme)
        for array, part in zip(made.values(), parts, strict=True):
            array[start:stop] = part
    if is_zero:
        source.saw_zeros(dense)
    if loss.underflowed:
        source.saw_loss(path, loss.error)
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


def quantizable(lm: Lm) -> dict[str, int]:
    """Return the width of every layer that `mlx.nn.quantize` would ask about, by its path."""
    return {
        path: layer["weight"].shape[-1]
        for path, layer in lm.named_modules()
        if hasattr(layer, "to_quantized") and not layer.children()
    }


def _layers_by_weight(lm: Lm) -> list[list[str]]:
    """Return the paths of the layers that hold the same weight array, for each array held more than once."""
    found: dict[int, list[str]] = {}
    for path, layer in lm.named_modules():
        if isinstance(layer.get("weight"), mx.array):
            found.setdefault(id(layer["weight"]), []).append(path)
    return [paths for paths in found.values() if len(paths) > 1]


def _stored_rows(tensor: TensorInfo, source: Origin, shape: tuple[int, ...], start: int, stop: int) -> np.ndarray:
    if source.flat:
        return read_rows(tensor).reshape(shape)[start:stop]
    begin = source.part * shape[0]
    return read_rows(tensor, begin + start, begin + stop)


def _as_mlx(array: np.ndarray, dtype: str) -> mx.array:
    return mx.array(array).view(mx.bfloat16) if dtype == "BF16" else mx.array(array)


def _checked(bits: np.ndarray, tensor: TensorInfo, key: str) -> np.ndarray:
    if not all_finite(bits):
        raise _not_finite(tensor, key)
    return bits


def _not_finite(tensor: TensorInfo, key: str) -> CheckpointError:
    return CheckpointError(
        f"{tensor.path}: {key} holds infinities or NaN; the file is damaged, {fetch_again(tensor.path)}"
    )
