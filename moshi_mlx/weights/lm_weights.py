"""Language-model weights, one file or shards: checked against its config from the header alone, then loaded."""

from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_unflatten

from moshi_mlx.errors import CheckpointError, some
from moshi_mlx.models.config import LmConfig
from moshi_mlx.models.layers import Embedding, QuantizedEmbedding
from moshi_mlx.models.lm import Lm
from moshi_mlx.weights.key_map import Source, detect_layout, is_unused, mlx_source, torch_source
from moshi_mlx.weights.progress import Progress, progress_bar
from moshi_mlx.weights.safetensors import read_tensors, same_bytes
from moshi_mlx.weights.scheme import Scheme, check_against_block, main_scheme, schemes_from_shapes

PIECE = 1 << 28  # bytes evaluated at once: enough to keep the disk busy, little enough to show progress
WIDEN_BELOW = 1 << 30  # bytes: twice as many are no burden to a machine that runs such a model on its CPU
_DTYPES = {"F32": mx.float32, "F16": mx.float16, "BF16": mx.bfloat16}


class LmWeights:
    """A weights file (or index of shards) that fits its config; nothing but its header has been read yet.

    layout: "mlx" or "torch". schemes: path -> how that layer is quantized.
    Raises CheckpointError or QuantizationError, with the file, the key, what was expected and what was found.
    """

    def __init__(self, path: Path, config: LmConfig, block: Mapping[str, Any] | None = None) -> None:
        self.path, self.config = path, config
        self.tensors = read_tensors(path)
        self.layout = detect_layout(self.tensors, path)
        self.schemes = self._read_schemes()
        check_against_block(self.schemes, block)
        self._check()

    @property
    def scheme(self) -> Scheme | None:
        """How most layers are quantized; None for a dense file."""
        return main_scheme(self.schemes)

    @property
    def default_dtype(self) -> mx.Dtype:
        """The type activations have unless asked otherwise.

        Dense weights: their own type. Quantized: bfloat16 on a GPU, float32 on a CPU, where MLX's quantized
        matmul accumulates in the type of the activations and is wrong by a tenth in bfloat16.
        """
        if self.schemes:
            return mx.bfloat16 if mx.default_device() == mx.gpu else mx.float32
        return _DTYPES[self.tensors["text_linear.weight"].dtype]

    def load(self, dtype: mx.Dtype | None = None, progress: Progress = None) -> Lm:
        """The model with all weights in memory, as stored; only activations have `dtype`.

        dtype: of the activations; weights of a wider type widen them again.
        progress: see `progress.Progress`.
        """
        lm = self._skeleton()
        lm.activation_dtype = dtype or self.default_dtype
        sources = self._sources(parameters(lm))
        file: dict[str, mx.array] = {}
        for path in dict.fromkeys(tensor.path for tensor in self.tensors.values()):
            file |= mx.load(str(path))  # type: ignore[arg-type]  # lazy: nothing is read yet
        arrays = {source: _take(file[source.key], source) for source in dict.fromkeys(sources.values())}
        lm.update(tree_unflatten([(name, arrays[source]) for name, source in sources.items()]))
        try:
            _evaluate(arrays.values(), f"loading {self.path.name}", progress)
        except RuntimeError as error:
            raise CheckpointError(f"cannot load {self.path}: {error}") from error
        lm.eval()
        return lm

    def _skeleton(self) -> Lm:
        """The model with its quantized layers in place; its arrays are only shapes, never evaluated."""
        lm = Lm(self.config)
        schemes = self.schemes
        nn.quantize(lm, class_predicate=lambda path, _: path in schemes and schemes[path].block())
        return lm

    def _read_schemes(self) -> dict[str, Scheme]:
        if self.layout == "torch":
            if quantized := [name for name in self.tensors if name.endswith(".scales")]:
                raise CheckpointError(f"{self.path} is quantized but in PyTorch's layout: {some(quantized)}")
            return {}
        layers = Lm(self.config).named_modules()
        widths = {path: layer["weight"].shape[-1] for path, layer in layers if hasattr(layer, "to_quantized")}
        return schemes_from_shapes(self.tensors, widths)

    def stored(self, name: str) -> Source:
        """Where the file keeps the parameter with an MLX name."""
        return torch_source(name, self.config, self.tensors) if self.layout == "torch" else Source(name)

    def _sources(self, names: Iterable[str]) -> dict[str, Source]:
        if self.layout == "torch":
            return {name: self.stored(name) for name in names}
        return {name: self._mlx_source(name) for name in names}

    def _mlx_source(self, name: str) -> Source:
        """Steps share an array only where the file's copies are equal: somebody may have trained them apart."""
        own, source = Source(name), mlx_source(name, self.config)
        tensors = self.tensors
        if source == own or same_bytes(tensors[own.key], tensors[source.key]):
            return source
        return own

    def _check(self) -> None:
        """Raise CheckpointError for missing keys, keys too many, wrong shapes and types that are no weights."""
        expected = parameters(self._skeleton())
        sources = {name: self.stored(name) for name in expected}
        used = {source.key for source in sources.values()}
        if missing := sorted(used - self.tensors.keys()):
            raise CheckpointError(
                f"{self.path} lacks {some(missing)}; does it belong to this config ({self._described()})?"
            )
        if extra := [name for name in self.tensors if name not in used and not is_unused(name, self.config)]:
            raise CheckpointError(
                f"{self.path} holds {some(sorted(extra))}, which this config does not have ({self._described()})"
            )
        for name, array in expected.items():
            found = self.tensors[sources[name].key]
            quantized = name.rpartition(".")[0] in self.schemes
            wanted = sources[name].stored_shape(array.shape)
            if found.shape != wanted:
                raise CheckpointError(
                    f"{self.path}: {sources[name].key} has shape {list(found.shape)}, {list(wanted)} expected"
                )
            if found.dtype not in _DTYPES and not quantized:
                types = ", ".join(_DTYPES)
                raise CheckpointError(
                    f"{self.path}: {sources[name].key} is of type {found.dtype}, one of {types} expected"
                )

    def _described(self) -> str:
        config = self.config
        transformer = config.transformer
        return f"{transformer.num_layers} layers of {transformer.dim}, n_q {config.n_q}, dep_q {config.dep_q}"


def widen_on_cpu(lm: Lm) -> None:
    """Hold a small model's half-precision arrays in float32 where MLX runs on the CPU; elsewhere change nothing.

    MLX's CPU backend converts such an operand anew whenever it is used: half of a small model's frame.
    Models of more than WIDEN_BELOW bytes stay as they are.
    """
    if mx.default_device() == mx.gpu or parameter_bytes(lm) > WIDEN_BELOW:
        return
    recast(lm, mx.float32, (mx.bfloat16, mx.float16))
    lm.activation_dtype = mx.float32


def recast(lm: Lm, dtype: mx.Dtype, those: Container[mx.Dtype]) -> None:
    """Hold the arrays of some types in another one; what layers share, they go on sharing."""
    held = parameters(lm)
    made = {id(array): array.astype(dtype) for array in held.values() if array.dtype in those}
    lm.update(tree_unflatten([(name, made.get(id(array), array)) for name, array in held.items()]))
    mx.eval(lm.parameters())


def parameters(module: nn.Module) -> dict[str, mx.array]:
    """All parameters by their full names."""
    return dict(tree_flatten(module.parameters()))  # type: ignore[arg-type]


def parameter_shapes(config: LmConfig) -> dict[str, tuple[int, ...]]:
    """Return the shape of every parameter of a dense model, by its MLX name."""
    return {name: array.shape for name, array in parameters(Lm(config)).items()}  # lazy: never evaluated


def parameter_bytes(module: nn.Module) -> int:
    """Bytes of all parameters, an array that several layers share counted once."""
    arrays = {id(array): array.nbytes for array in parameters(module).values()}
    return sum(arrays.values())


def weight_bytes(lm: Lm, batch: int = 1) -> int:
    """Bytes of weights read per frame: of a table only the rows looked up, of anything else all.

    Every step of the depth transformer reads its weights, also those it shares with another step.
    """
    tables = {path for path, layer in lm.named_modules() if isinstance(layer, Embedding | QuantizedEmbedding)}
    total = 0
    for name, array in parameters(lm).items():
        rows = array.shape[0]
        total += array.nbytes * batch // rows if name.rpartition(".")[0] in tables else array.nbytes
    return total


def _take(array: mx.array, source: Source) -> mx.array:
    if source.flat:
        return array.reshape(-1)
    if source.parts == 1:
        return array
    rows = array.shape[0] // source.parts
    return array[source.part * rows : (source.part + 1) * rows]  # a view: no copy of the rows


def _evaluate(arrays: Iterable[mx.array], title: str, progress: Progress) -> None:
    with progress_bar(title, sum(array.nbytes for array in arrays), progress) as advance:
        piece, size = [], 0
        for array in arrays:
            piece.append(array)
            size += array.nbytes
            if size >= PIECE:
                mx.eval(piece)
                advance(size)
                piece, size = [], 0
        mx.eval(piece)
        advance(size)
