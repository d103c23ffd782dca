"""Counts of what MLX is asked to do: primitives and kernels of what is evaluated, waits of the host, traces.

The count is that of a GPU backend, on any machine: each `mx.fast` function and `mx.dequantize` is one primitive
there, while the CPU backend composes them of many. While counting they are therefore replaced by one opaque
primitive of the right shape: the results mean nothing then, but as much is computed. Functions of MLX are replaced
within the context managers of this file only, and nothing but `bench --counts` imports it.
"""

from __future__ import annotations

import functools
import io
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import mlx.core as mx
from mlx.utils import tree_flatten

from moshi_mlx.models import activations as activations_module
from moshi_mlx.models import add_norm as add_norm_module
from moshi_mlx.models import rope as rope_module

VIEWS = frozenset(
    ["Reshape", "Transpose", "Slice", "Broadcast", "ExpandDims", "Squeeze", "Flatten", "Unflatten", "AsStrided"]
) | {"Split"}
"""Primitives that move no data: no kernel runs for them."""

_NODE = re.compile(r'\[label ?="([^"]*)", ?shape=rectangle\]')
_READS = ("item", "tolist", "__bool__", "__int__", "__float__")  # of an array; each may wait for the device


@dataclass
class Seen:
    """What a stretch of code asked for."""

    primitives: Counter[str] = field(default_factory=Counter)
    syncs: int = 0  # `mx.eval` calls, and reads of single values

    @property
    def kernels(self) -> int:
        """Primitives that are not views."""
        return sum(count for name, count in self.primitives.items() if name not in VIEWS)


@contextmanager
def watching() -> Iterator[Seen]:
    """Record every evaluation within; they happen all the same.

    What numpy reads before `mx.eval` has evaluated it cannot be seen from Python, and is missing in the counts.
    """
    seen = Seen()
    evaluate, evaluate_later = mx.eval, mx.async_eval

    def record(arrays: Any) -> None:
        text = io.StringIO()
        mx.export_to_dot(text, *(array for _, array in tree_flatten(arrays) if isinstance(array, mx.array)))
        seen.primitives.update(_NODE.findall(text.getvalue()))

    def eval(*arrays: Any) -> None:
        record(arrays)
        seen.syncs += 1
        evaluate(*arrays)

    def async_eval(*arrays: Any) -> None:
        record(arrays)
        evaluate_later(*arrays)

    def counted(read: Callable[..., Any]) -> Callable[..., Any]:
        def call(array: mx.array, *arguments: Any) -> Any:
            seen.syncs += 1
            return read(array, *arguments)

        return call

    with patch.multiple(mx, eval=eval, async_eval=async_eval), ExitStack() as reads:
        for name in _READS:
            reads.enter_context(patch.object(mx.array, name, counted(getattr(mx.array, name))))
        yield seen


@contextmanager
def counting_traces() -> Iterator[Counter[str]]:
    """Count how often functions compiled within are traced: name -> traces.

    MLX calls a compiled function's Python code once per trace. What was compiled before is not seen.
    """
    traces: Counter[str] = Counter()
    compile = mx.compile

    def counting(function: Callable[..., Any], *arguments: Any, **settings: Any) -> Callable[..., Any]:
        name = getattr(getattr(function, "func", function), "__qualname__", str(function))

        @functools.wraps(function, assigned=[])
        def traced(*inputs: Any, **named: Any) -> Any:
            traces[name] += 1
            return function(*inputs, **named)

        return compile(traced, *arguments, **settings)

    with patch.object(mx, "compile", counting):
        yield traces


class _Passed:
    """The trials of a GPU on which our own kernels have passed all."""

    def get(self, key: tuple[int, mx.Dtype]) -> add_norm_module.Trial:
        """Return the trial of rows of a width and type."""
        return add_norm_module.Trial(key[0], str(key[1]))


@contextmanager
def as_on_a_gpu(own_kernels: bool = False) -> Iterator[None]:
    """Make the functions that are one kernel on a GPU one primitive here; they return zeros.

    own_kernels: as on a GPU on which our own have passed their trial; else they are not used.
    """

    def rms_norm(x: mx.array, weight: mx.array | None, eps: float, **_: Any) -> mx.array:
        return _opaque(x.shape, x.dtype, x, weight)

    def layer_norm(x: mx.array, weight: mx.array | None, bias: mx.array | None, eps: float, **_: Any) -> mx.array:
        return _opaque(x.shape, x.dtype, x, weight, bias)

    def rope(x: mx.array, *_: Any, offset: Any = 0, **__: Any) -> mx.array:
        return _opaque(x.shape, x.dtype, x, offset)

    def attention(q: mx.array, k: mx.array, v: mx.array, *, mask: Any = None, **_: Any) -> mx.array:
        return _opaque((*q.shape[:-1], v.shape[-1]), q.dtype, q, k, v, mask)

    def dequantize(
        w: mx.array,
        scales: mx.array,
        biases: mx.array | None = None,
        group_size: int = 64,
        bits: int = 4,
        **_: Any,
    ) -> mx.array:
        dtype = scales.dtype if biases is not None else mx.bfloat16
        return _opaque((*w.shape[:-1], w.shape[-1] * 32 // bits), dtype, w, scales, biases)

    def add_norm(x: mx.array, update: mx.array, weight: mx.array, eps: float) -> tuple[mx.array, ...]:
        return _opaques([x.shape, x.shape], x.dtype, x, update, weight)

    with (
        patch.multiple(add_norm_module, fused=add_norm, trials=_Passed() if own_kernels else {}),
        patch.multiple(mx.fast, rms_norm=rms_norm, layer_norm=layer_norm, rope=rope),
        patch.object(mx.fast, "scaled_dot_product_attention", attention),
        patch.object(mx, "dequantize", dequantize),
        patch.object(rope_module, "use_table", lambda: False),
        patch.object(activations_module, "use_products", lambda x: False),
    ):
        yield


_evaluate = mx.eval  # whatever replaces it later


def _opaque(shape: tuple[int, ...], dtype: mx.Dtype, *inputs: Any) -> mx.array:
    """Return zeros that depend on the inputs: one primitive."""
    return _opaques([shape], dtype, *inputs)[0]


def _opaques(shapes: Sequence[tuple[int, ...]], dtype: mx.Dtype, *inputs: Any) -> tuple[mx.array, ...]:
    """Return several such zeros, of one primitive."""
    zeros = [mx.zeros(shape, dtype) for shape in shapes]
    _evaluate(zeros)
    return tuple(mx.depends(zeros, [array for array in inputs if isinstance(array, mx.array)]))
