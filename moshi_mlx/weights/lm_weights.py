"""Language-model weights, one file or shards: checked against its config from the header alone, then loaded.

The key map says which tensor of a file is which parameter; parameters of the same `Origin` share one array.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_unflatten

from moshi_mlx.errors import CheckpointError, fetch_again, some
from moshi_mlx.machine import memory_for
from moshi_mlx.models.config import LmConfig
from moshi_mlx.models.layers import ROW_ARRAYS, parameters
from moshi_mlx.models.lm import Lm
from moshi_mlx.models.window import check_window
from moshi_mlx.planning.planner import KV_BITS
from moshi_mlx.weights.key_map import (
    GGUF,
    Origin,
    candle_origin,
    detect_layout,
    is_unused,
    mlx_origin,
    plain_names,
    read_any,
    torch_origin,
)
from moshi_mlx.weights.safetensors import TensorInfo, read_rows, same_bytes
from moshi_mlx.weights.sizes import check_sizes
from moshi_mlx.weights.values import FLOATS, SCALES, Look, all_zero, zeros_note

if TYPE_CHECKING:  # a dense file needs nothing of it
    from moshi_mlx.weights.quantization import Scheme

PIECE = 1 << 26  # bytes evaluated at once: enough to keep the disk busy, little enough to look at one meanwhile
_DTYPES = {"F32": mx.float32, "F16": mx.float16, "BF16": mx.bfloat16}


class LmWeights:
    """A weights file (or an index of shards) that fits its config; only headers have been read yet.

    layout: "mlx", "torch" or "candle". schemes: path -> how that layer is quantized.
    Raises CheckpointError or QuantizationError, with the file, the key, what was expected and what was found;
    ConfigError for a size that the file cannot have.
    """

    def __init__(self, path: Path, config: LmConfig, block: Mapping[str, Any] | None = None) -> None:
        self.path, self.config = path, config
        self.tensors = plain_names(read_any(path), path)
        self.layout = detect_layout(self.tensors, path)
        check_sizes(config, self.tensors, path)
        self.schemes = self._read_schemes()
        if block:
            from moshi_mlx.weights.quantization import check_against_block

            check_against_block(self.schemes, block)
        self._check()

    @property
    def scheme(self) -> Scheme | None:
        """How most layers are quantized; None for a dense file."""
        if not self.schemes:
            return None
        from moshi_mlx.weights.quantization import main_scheme

        return main_scheme(self.schemes)

    @property
    def default_dtype(self) -> mx.Dtype:
        """The type activations have unless asked otherwise.

        Dense weights: their own type. Quantized: bfloat16 on a GPU, float32 on a CPU, where MLX's quantized
        matmul accumulates in the type of the activations and is wrong by a tenth in bfloat16. Int8 weights of
        other programs: float32.
        """
        if self.schemes:
            narrow = mx.default_device() == mx.gpu and not self._made  # whose scales would widen them again
            return mx.bfloat16 if narrow else mx.float32
        return _DTYPES[self.tensors["text_linear.weight"].dtype]

    @property
    def nbytes(self) -> int:
        """Bytes that loading puts into memory."""
        return sum(self.tensors[origin.key].nbytes // origin.parts for origin in set(self._origins.values()))

    def load(
        self,
        dtype: mx.Dtype | None = None,
        advance: Callable[[int], None] = lambda count: None,
        tell: Callable[[str], None] = lambda note: None,
    ) -> Lm:
        """Return the model with all weights in memory, as stored; only activations have `dtype`.

        dtype: of the activations; weights of a wider type widen them again.
        advance: told of bytes as they are read, `nbytes` in all.
        tell: gets one note if matrices hold nothing but zeros.
        Raises CheckpointError if the file cannot be read, is larger than this machine's memory, or holds
        infinities or NaN; ConfigError if the model's window is larger than the memory that is left.
        """
        self._check_memory()
        lm = self._to_fill()
        lm.activation_dtype = dtype or self.default_dtype
        origins = self._origins
        arrays: dict[Origin, mx.array] = {}
        try:
            looks = list(self._evaluate(self._arrays(set(origins.values()), arrays), advance))
        except RuntimeError as error:
            raise CheckpointError(f"cannot load {self.path}: {error}") from error
        for origin in (one for look in looks for one in look.not_finite()):
            path = self.tensors[origin.key].path
            raise CheckpointError(f"{path} is damaged, {origin.key} holds NaN or infinities; {fetch_again(path)}")
        if zeros := self._zeros(arrays, {origin for look in looks for origin in look.zeros()}):
            tell(zeros_note(self.path, zeros))
        lm.update(tree_unflatten([(name, arrays[origin]) for name, origin in origins.items()]))
        lm.eval()
        return lm

    def _arrays(
        self, origins: Collection[Origin], found: dict[Origin, mx.array]
    ) -> Iterator[tuple[Origin, mx.array]]:
        """Give every origin and its array, and put it into `found`."""
        depth = self.config.depth
        part_used = depth is not None and depth.schedule != depth.stored_schedule
        ordered = sorted(origins, key=lambda origin: (origin.key, origin.part))
        stored = [origin for origin in ordered if self._is_stored(self.tensors[origin.key])]
        file: dict[str, mx.array] = {}
        for path in dict.fromkeys(self.tensors[origin.key].path for origin in stored):
            held = mx.load(str(path), format="safetensors")  # lazy: nothing is read yet
            file |= plain_names(held, path)  # type: ignore[arg-type]
        lazy = {origin: _take(file[origin.key], origin, part_used) for origin in stored}
        del file  # so that a stacked tensor goes once all its parts are copied
        for origin in ordered:
            found[origin] = lazy.pop(origin) if origin in lazy else _read(self.tensors[origin.key], origin)
            yield origin, found[origin]

    def _evaluate(
        self, arrays: Iterable[tuple[Origin, mx.array]], advance: Callable[[int], None]
    ) -> Iterator[Look[Origin]]:
        """Read the arrays piece by piece; each is looked at while the next is read."""
        scales = {
            origin: SCALES.get(how.mode)
            for path, how in self.schemes.items()
            if (origin := self._origins.get(f"{path}.scales"))
        }

        def read() -> Look[Origin]:
            mx.eval([array for _, array in piece])
            advance(size)
            return Look(
                (origin, array, scales.get(origin) if array.dtype == mx.uint8 else FLOATS.get(array.dtype))
                for origin, array in piece
            )

        piece, size = [], 0
        for origin, array in arrays:
            piece.append((origin, array))
            size += array.nbytes
            if size >= PIECE:
                yield read()
                piece, size = [], 0
        yield read()

    def _zeros(self, arrays: Mapping[Origin, mx.array], zeros: Container[Origin]) -> list[str]:
        """Return the keys of matrices that are all zeros, given which arrays are. Norms and paddings may be."""
        found: dict[str, None] = {}
        for name, origin in self._origins.items():
            path, _, leaf = name.rpartition(".")
            if leaf != "weight" or arrays[origin].ndim != 2:
                continue
            if scheme := self.schemes.get(path):
                parts = [one for leaf in ROW_ARRAYS if (one := self._origins.get(f"{path}.{leaf}"))]
                may_be = scheme.mode != "affine" or parts[-1] in zeros
                is_zero = may_be and all_zero([arrays[one] for one in parts], scheme)
            else:
                is_zero = origin in zeros
            if is_zero:
                found[origin.key] = None
        return list(found)

    @staticmethod
    def _is_stored(tensor: TensorInfo) -> bool:
        """Whether MLX reads a tensor from its file as it is used."""
        return not tensor.made and tensor.path.suffix != GGUF

    def _skeleton(self) -> Lm:
        """Return the model with its quantized layers in place; its arrays are only shapes, never evaluated."""
        lm = Lm(self.config)
        schemes = self.schemes
        nn.quantize(lm, class_predicate=lambda path, _: path in schemes and schemes[path].block())
        return lm

    def _to_fill(self) -> Lm:
        """Return the model that loading puts arrays into."""
        return self._skeleton()

    def _read_schemes(self) -> dict[str, Scheme]:
        made = self._made
        if not made and not any(name.endswith(".scales") for name in self.tensors):
            return {}
        from moshi_mlx.weights.quantization import PARTS, schemes_from_shapes

        layers = {path: layer for path, layer in Lm(self.config).named_modules() if hasattr(layer, "to_quantized")}
        for path, layer in layers.items():
            key = self.stored(f"{path}.weight").key
            if made and not layer.children() and key in self.tensors:
                self.tensors |= _in_groups(key, self.tensors[key])
        names = [f"{path}.{leaf}" for path in layers for leaf in PARTS]
        found = {name: self.tensors[key] for name in names if (key := self.stored(name).key) in self.tensors}
        return schemes_from_shapes(found, {path: layer["weight"].shape[-1] for path, layer in layers.items()})

    @property
    def _made(self) -> bool:
        """Whether another program has stored its weights in int8."""
        return any(tensor.made for tensor in self.tensors.values())

    def stored(self, name: str) -> Origin:
        """Return where the file keeps the parameter with an MLX name."""
        path, _, leaf = name.rpartition(".")
        if leaf in ("scales", "biases"):
            weight = self.stored(f"{path}.weight")
            return replace(weight, key=f"{weight.key[: -len('.weight')]}.{leaf}")
        if self.layout == "torch":
            return torch_origin(name, self.config, self.tensors)
        return candle_origin(name, self.config) if self.layout == "candle" else Origin(name)

    @cached_property
    def _origins(self) -> dict[str, Origin]:
        """Where each parameter is loaded from.

        Depth steps share an array only where the file's copies are equal: somebody may have trained them apart.
        """
        own = {name: self.stored(name) for name in parameters(self._skeleton())}
        if self.layout == "torch":
            return own
        shared = {name: self.stored(mlx_origin(name, self.config).key) for name in own}
        tensors = self.tensors
        return {
            name: shared[name] if same_bytes(tensors[own[name].key], tensors[shared[name].key]) else own[name]
            for name in own
        }

    def _check(self) -> None:
        """Raise CheckpointError for missing keys, keys too many, wrong shapes and types that are no weights."""
        expected = parameters(self._skeleton())
        origins = {name: self.stored(name) for name in expected}
        used = {origin.key for origin in origins.values()}
        if missing := sorted(used - self.tensors.keys()):
            raise CheckpointError(
                f"{self.path} lacks {some(missing)}; does it belong to this config ({self._described()})?"
            )
        if extra := [name for name in self.tensors if name not in used and not is_unused(name, self.config)]:
            raise CheckpointError(
                f"{self.path} holds {some(sorted(extra))}, which this config does not have ({self._described()})"
            )
        for name, array in expected.items():
            found = self.tensors[origins[name].key]
            quantized = name.rpartition(".")[0] in self.schemes
            wanted = origins[name].stored_shape(array.shape)
            if found.shape != wanted:
                raise CheckpointError(
                    f"{self.path}: {origins[name].key} has shape {list(found.shape)}, {list(wanted)} expected"
                )
            if found.dtype not in _DTYPES and not quantized:
                types = ", ".join(_DTYPES)
                raise CheckpointError(
                    f"{self.path}: {origins[name].key} is of type {found.dtype}, one of {types} expected"
                )

    def _check_memory(self) -> None:
        """Raise an error if the weights, or with them a window in its narrowest type, exceed the memory."""
        need = self.nbytes
        if need > (here := memory_for(need)):
            raise CheckpointError(
                f"{self.path} needs {need / 1e9:.1f} GB for its weights, but this machine has {here / 1e9:.1f} GB "
                "of memory; take a quantized or a smaller model"
            )
        window = self.config.transformer
        check_window(window, window.context, min(KV_BITS.values()), already=need)

    def _described(self) -> str:
        config = self.config
        transformer = config.transformer
        return f"{transformer.num_layers} layers of {transformer.dim}, n_q {config.n_q}, dep_q {config.dep_q}"


def _read(tensor: TensorInfo, origin: Origin) -> mx.array:
    rows = tensor.shape[0] // origin.parts
    array = mx.array(read_rows(tensor, origin.part * rows, (origin.part + 1) * rows))
    array = array.view(mx.bfloat16) if tensor.dtype == "BF16" else array
    return array.reshape(-1) if origin.flat else array


def _in_groups(key: str, tensor: TensorInfo) -> dict[str, TensorInfo]:
    """Return the tensors of an int8 matrix as a layer of MLX; none for any other tensor."""
    from moshi_mlx.weights.int8 import Int8Matrix

    return tensor.as_mlx(key) if isinstance(tensor, Int8Matrix) and tensor.group else {}


def parameter_shapes(config: LmConfig) -> dict[str, tuple[int, ...]]:
    """Return the shape of every parameter of a dense model, by its MLX name."""
    return {name: array.shape for name, array in parameters(Lm(config)).items()}  # lazy: never evaluated


def _take(array: mx.array, origin: Origin, copied: bool) -> mx.array:
    """copied: whether a part is copied, for the other parts not to stay in memory with it."""
    if origin.flat:
        return array.reshape(-1)
    if origin.parts == 1:
        return array
    rows = array.shape[0] // origin.parts
    start = origin.part * rows
    return array[mx.arange(start, start + rows)] if copied else array[start : start + rows]  # else a view
