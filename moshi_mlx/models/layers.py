"""The layers every network here is built from, their arrays, and how they are compiled to need few kernels.

Attribute names equal the keys of checkpoints; PyTorch's names are in the key map and in `Mimi.sanitize`.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Container, Sequence
from copy import copy
from typing import Any, TypeVar

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_unflatten

M = TypeVar("M", bound=nn.Module)
F = TypeVar("F", bound=Callable[..., Any])

ROW_ARRAYS = ("weight", "scales", "biases")  # arrays with one row per output, or per entry of a table


class Linear(nn.Linear):
    """A matrix without bias: every projection of the language model and of Mimi's transformers.

    x (..., inputs) -> (..., outputs); weight (outputs, inputs), as in checkpoints.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=False)
        self._transpose: Callable[[mx.array], mx.array] = mx.transpose

    def __call__(self, x: mx.array) -> mx.array:
        return x @ self._transpose(self["weight"])

    def keep_transpose(self) -> None:
        """Keep the transpose of the weight, a view without memory of its own, instead of making it at every call.

        A weight that is replaced later is used, but the old one stays in memory.
        """
        weight, transpose = self["weight"], self["weight"].T
        mx.eval(transpose)
        self._transpose = lambda current: transpose if current is weight else current.T


class RMSNorm(nn.Module):
    """The norm that configs call `rms_norm_f32`, (..., dim) -> (..., dim).

    It accumulates in float32, whatever the type of its input.
    Source: moshi/modules/transformer.py `RMSNorm` (eps 1e-8, weight stored as `alpha`).
    """

    def __init__(self, dim: int, eps: float = 1e-8) -> None:
        super().__init__()
        self.weight = mx.ones((dim,))
        self.eps = eps

    def __call__(self, x: mx.array) -> mx.array:
        return mx.fast.rms_norm(x, self.weight, self.eps)


def make_norm(kind: str, dim: int) -> nn.Module:
    """Return the norm that a config names: "rms_norm_f32" or "layer_norm" (eps 1e-5)."""
    return RMSNorm(dim) if kind == "rms_norm_f32" else nn.LayerNorm(dim, eps=1e-5)


class Embedding(nn.Module):
    """A look-up table in which id -1, "no token", is exactly zero.

    low_rank: width of the stored rows; a linear layer then brings them to `dim`.
    Source: moshi/models/lm_utils.py `ScaledEmbedding`.
    """

    def __init__(self, rows: int, dim: int, low_rank: int | None = None) -> None:
        super().__init__()
        self.weight = mx.random.normal((rows, low_rank or dim)) * (low_rank or dim) ** -0.5
        if low_rank:
            self.low_rank = Linear(low_rank, dim)
        self._has_low_rank = bool(low_rank)

    def __call__(self, ids: mx.array, dtype: mx.Dtype) -> mx.array:
        """ids: any shape, int32, -1 or a row. Returns (*ids.shape, dim) in `dtype`, that of the activations."""
        rows = _zero_where_negative(ids, self.weight[ids].astype(dtype))
        return self.low_rank(rows) if self._has_low_rank else rows

    def to_quantized(
        self, group_size: int | None = None, bits: int | None = None, mode: str = "affine", **_: object
    ) -> QuantizedEmbedding:
        """Return the same table quantized; `mlx.nn.quantize` calls this."""
        return QuantizedEmbedding(self.weight, group_size or 64, bits or 4, mode)


class PairEmbedding(nn.Module):
    """A look-up table for tokens that are two: (second + 1) * rows + first, the second -1 where there is none.

    Both are rows of one table, each with a matrix of its own; id -1 is exactly zero. low_rank: width of the rows.
    Source: moshi/models/lm_utils.py `ScaledEmbedding`, `demux_second_stream`.
    """

    def __init__(self, rows: int, dim: int, low_rank: int | None = None) -> None:
        super().__init__()
        width = low_rank or dim
        self.weight = mx.random.normal((rows, width)) * width**-0.5
        self.out1 = Linear(width, dim)
        self.out2 = Linear(width, dim)
        self._rows = rows

    def __call__(self, ids: mx.array, dtype: mx.Dtype) -> mx.array:
        """ids: any shape, int32, -1 or a pair. Returns (*ids.shape, dim) in `dtype`, that of the activations."""
        both = mx.maximum(ids, 0)
        first, second = both % self._rows, both // self._rows - 1
        found = self.out1(self.weight[first].astype(dtype))
        ahead = self.out2(_zero_where_negative(second, self.weight[mx.maximum(second, 0)].astype(dtype)))
        return _zero_where_negative(ids, found + ahead)


class QuantizedEmbedding(nn.Module):
    """A look-up table that stays quantized: only the rows asked for are dequantized."""

    def __init__(self, table: mx.array, group_size: int, bits: int, mode: str = "affine") -> None:
        super().__init__()
        self.group_size, self.bits, self.mode = group_size, bits, mode
        self.weight, self.scales, *biases = mx.quantize(table, group_size, bits, mode=mode)
        if biases:
            self.biases = biases[0]
        self.freeze()

    def __call__(self, ids: mx.array, dtype: mx.Dtype) -> mx.array:
        """ids: any shape, int32, -1 or a row. Returns (*ids.shape, dim) in `dtype`, that of the activations.

        MLX computes affine rows in the type of their scales, and only then converts them: so scales are converted
        first, or rows would be rounded to bfloat16 where activations are float32.
        """
        scales, biases = self.scales[ids], self.get("biases")
        rows = mx.dequantize(
            self.weight[ids],
            scales=scales if biases is None else scales.astype(dtype),
            biases=None if biases is None else biases[ids].astype(dtype),
            group_size=self.group_size,
            bits=self.bits,
            mode=self.mode,
            dtype=dtype,
        )
        return _zero_where_negative(ids, rows)


def _zero_where_negative(ids: mx.array, rows: mx.array) -> mx.array:
    return mx.where(ids[..., None] >= 0, rows, 0)


def keep_transposes(module: nn.Module) -> None:
    """Call `Linear.keep_transpose` for all layers within `module`, once its weights are final."""
    for layer in module.modules():
        if isinstance(layer, Linear):
            layer.keep_transpose()


def lay_for_products(module: nn.Module) -> None:
    """Lay the matrices within `module` in memory as a CPU multiplies by them; a GPU wants them as they come.

    That is transposed, inputs first: with the BLAS of MLX's wheel, products of several rows then are up to twice
    as fast, with OpenBLAS up to a quarter. Shapes, values and the bytes held stay as they are.
    """
    if mx.default_device() == mx.gpu:
        return
    for layer in module.modules():
        if isinstance(layer, nn.Linear) and layer.weight.shape[0] >= _WIDE:
            layer.weight = mx.contiguous(layer.weight.T).T
            mx.eval(layer.weight)  # one at a time: the copies do not add up


_WIDE = 16  # outputs; below, the BLAS that MLX brings multiplies faster by the matrix as it comes


def stack_rows(layers: Sequence[M]) -> M | None:
    """Join layers of one kind into one that has the rows of all, so that one kernel computes them together.

    The arrays of the given layers become views of the joined ones: nothing is held twice.
    Returns None if there are no layers, if their kinds differ, or if they have children or other arrays.
    """
    if not layers or any(layer.children() or set(layer) - set(ROW_ARRAYS) for layer in layers):
        return None
    if len({_kind(layer) for layer in layers}) > 1:
        return None
    stacked = copy(layers[0])
    for name in set(layers[0]):
        counts = [layer[name].shape[0] for layer in layers]
        rows = mx.concatenate([layer[name] for layer in layers])
        mx.eval(rows)
        stacked[name] = rows
        start = 0
        for layer, count in zip(layers, counts, strict=True):
            layer[name] = rows[start : start + count]
            start += count
        mx.eval([layer[name] for layer in layers])
    return stacked


def _kind(layer: nn.Module) -> tuple[object, ...]:
    settings = [getattr(layer, name, None) for name in ("bits", "group_size", "mode")]
    return type(layer), *settings, *((name, layer[name].shape[1:], layer[name].dtype) for name in sorted(layer))


def compiled(function: F, *, shapeless: bool = False) -> F:
    """Compile `function` as `mx.compile` does, but trace it once for every thread that calls it.

    A trace keeps the streams of the thread that made it. Running it after that thread has ended can abort the
    process (seen in MLX 0.32), so no thread uses another's.
    """
    local = threading.local()

    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        run = getattr(local, "run", None)
        if run is None:
            # A new object each time: MLX keeps traces by function.
            run = local.run = mx.compile(functools.partial(function), shapeless=shapeless)
        return run(*arguments)

    return call  # type: ignore[return-value]


def dequantized(arrays: Sequence[mx.array], group_size: int, bits: int, mode: str) -> mx.array:
    """Return the float32 weights that a quantized layer computes with.

    arrays: its weight, scales and, in affine mode, biases; these are float32 first, whatever they are stored as.
    """
    if mode == "affine":
        arrays = [arrays[0], *(array.astype(mx.float32) for array in arrays[1:])]
    return mx.dequantize(*arrays, group_size=group_size, bits=bits, mode=mode).astype(mx.float32)


def parameters(module: nn.Module) -> dict[str, mx.array]:
    """Return all parameters by their full names."""
    return dict(tree_flatten(module.parameters()))  # type: ignore[arg-type]


def parameter_bytes(module: nn.Module) -> int:
    """Return the bytes of all parameters, an array that several layers share counted once."""
    arrays = {id(array): array.nbytes for array in parameters(module).values()}
    return sum(arrays.values())


READ_ONCE = ("condition_provider.", "cross_attention.k_proj.", "cross_attention.v_proj.")


def weight_bytes(module: nn.Module, batch: int = 1) -> int:
    """Return the bytes of weights read per frame: of a table only the rows looked up, of most others all.

    Every step of the depth transformer reads its weights, also those it shares with another step. What makes
    something of a condition or a voice is read once a conversation, and does not count.
    """
    tables = {
        path
        for path, layer in module.named_modules()
        if isinstance(layer, Embedding | PairEmbedding | QuantizedEmbedding)
    }
    total = 0
    for name, array in parameters(module).items():
        if any(part in name for part in READ_ONCE):
            continue
        rows = array.shape[0]
        total += array.nbytes * batch // rows if name.rpartition(".")[0] in tables else array.nbytes
    return total


def recast(module: nn.Module, dtype: mx.Dtype, those: Container[mx.Dtype]) -> None:
    """Convert the arrays of `those` types to `dtype`, in place; what layers share, they go on sharing."""
    held = parameters(module)
    made = {id(array): array.astype(dtype) for array in held.values() if array.dtype in those}
    module.update(tree_unflatten([(name, made.get(id(array), array)) for name, array in held.items()]))
    mx.eval(module.parameters())
