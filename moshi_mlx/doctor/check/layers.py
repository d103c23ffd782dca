"""Cases of single layers: norms, activations, tables, and matrix products in every format of weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from moshi_mlx.doctor.check import closed_form
from moshi_mlx.doctor.check.comparison import NAMES, ROUNDED, Case, Noise, numbers, on_gpu, tolerance
from moshi_mlx.doctor.check.shapes import FORMATS, Shapes
from moshi_mlx.models.activations import elu
from moshi_mlx.models.config import TransformerConfig
from moshi_mlx.models.layers import Embedding, Linear, make_norm
from moshi_mlx.models.transformer import GatedFeedForward, TransformerLayer
from moshi_mlx.weights.quantization import Scheme

TYPES = (mx.float32, mx.bfloat16)
KNOWN = (
    "MLX's CPU backend adds up a quantized product in the type of the activations, which bfloat16 is too coarse "
    "for; this package therefore gives quantized layers float32 on a CPU, which is checked too and is what counts"
)
"""Of quantized products in bfloat16, on a CPU only."""

Made = tuple[mx.array | np.ndarray, np.ndarray]


def cases(shapes: Shapes) -> Iterator[Case]:
    """List them."""
    noise = Noise(1)
    yield from _norms(shapes, noise)
    yield from _activations(shapes, noise)
    yield from _embeddings(shapes, noise)
    yield from _products(shapes, noise)


class Same(Linear):
    """Stands in for a projection, so that what lies behind it can be looked at alone."""

    def __init__(self) -> None:
        super().__init__(1, 1)

    def __call__(self, x: mx.array) -> mx.array:
        return x


def activation_type(scheme: Scheme | None) -> mx.Dtype:
    """Return the type that activations have beside such weights; see `LmWeights.default_dtype`."""
    return mx.bfloat16 if scheme is None or on_gpu() else mx.float32


def _norms(shapes: Shapes, noise: Noise) -> Iterator[Case]:
    depth = shapes.depth.transformer
    for config in (shapes.temporal, depth, shapes.mimi.transformer):
        name = "layer norm" if config.norm == "layer_norm" else "RMS norm"
        for dtype in TYPES:
            detail = f"{NAMES[dtype]}, {config.dim} channels"
            yield Case(name, detail, tolerance(dtype), partial(_norm, config, dtype, noise))


def _norm(config: TransformerConfig, dtype: mx.Dtype, noise: Noise) -> Made:
    norm = make_norm(config.norm, config.dim)
    # Of a mean far from zero, and once nearly silent: where sums are too coarse, or eps counts too much.
    x = mx.array(noise.normal(3, config.dim) * np.array([[1], [30], [1e-3]], np.float32) + 0.5).astype(dtype)
    norm["weight"] = mx.array(1 + 0.1 * noise.normal(config.dim)).astype(dtype)
    if config.norm != "layer_norm":
        return norm(x), closed_form.rms_norm(numbers(x), numbers(norm["weight"]))
    norm["bias"] = mx.array(0.1 * noise.normal(config.dim)).astype(dtype)
    return norm(x), closed_form.layer_norm(numbers(x), numbers(norm["weight"]), numbers(norm["bias"]))


def _activations(shapes: Shapes, noise: Noise) -> Iterator[Case]:
    hidden = shapes.temporal.ffn_hidden
    for dtype in TYPES:
        close = 1e-5 if dtype == mx.float32 else 2 * ROUNDED
        yield Case("SiLU gate", f"{NAMES[dtype]}, {hidden} channels", close, partial(_gate, hidden, dtype, noise))
    yield Case("GELU", f"f32, {shapes.mimi.transformer.ffn_hidden} channels", 1e-5, partial(_gelu, shapes, noise))
    count = shapes.mimi.seanet.n_filters
    yield Case("ELU", f"f32, {count} channels", 1e-5, lambda: _elu(noise.normal(1, 1920, count)))


def _gate(hidden: int, dtype: mx.Dtype, noise: Noise) -> Made:
    block = GatedFeedForward(8, 8)
    block.linear_in = Same()
    block.linear_out = Same()
    x = mx.array(3 * noise.normal(2, 2 * hidden)).astype(dtype)
    gate, value = np.split(numbers(x), 2, -1)
    return block(x), closed_form.silu(gate) * value


def _gelu(shapes: Shapes, noise: Noise) -> Made:
    layer = TransformerLayer(shapes.mimi.transformer)
    layer.linear1 = Same()
    layer.linear2 = Same()
    x = noise.normal(1, shapes.mimi.transformer.ffn_hidden)
    return layer._feed_forward(mx.array(x)), closed_form.gelu(x)


def _elu(x: np.ndarray) -> Made:
    return elu(mx.array(x)), closed_form.elu(x)


def _embeddings(shapes: Shapes, noise: Noise) -> Iterator[Case]:
    tables = {"audio": (shapes.lm.card + 1, shapes.lm.transformer.dim)}
    tables["text"] = (shapes.lm.text_card + 1, shapes.depth.transformer.dim)
    for rows, dim in tables.values():
        for name, scheme in FORMATS.items():
            dtype = activation_type(scheme)
            detail = f"{name}, {NAMES[dtype]} activations, {rows} rows of {dim}, token -1 among others"
            yield Case("embedding", detail, tolerance(dtype), partial(_embedding, rows, dim, scheme, noise))


def _embedding(rows: int, dim: int, scheme: Scheme | None, noise: Noise) -> Made:
    layer = Embedding(rows, dim)
    table = fill(layer, rows, dim, scheme, noise)
    ids = np.array([[-1, 0, rows - 1], [rows // 2, -1, 1]], np.int32)
    right = np.where(ids[..., None] >= 0, table[1](ids.reshape(-1)).reshape(2, 3, dim), 0)
    return table[0](mx.array(ids), activation_type(scheme)), right


def _products(shapes: Shapes, noise: Noise) -> Iterator[Case]:
    """Yield every shape with one row, two of them with batches."""
    temporal, depth = shapes.temporal, shapes.depth.transformer
    assert shapes.lm.depth
    sizes = [
        (temporal.dim, (temporal.num_heads + 2 * temporal.num_kv_heads) * temporal.head_dim),
        (temporal.dim, temporal.dim),
        (temporal.dim, 2 * temporal.ffn_hidden),
        (temporal.ffn_hidden, temporal.dim),
        (temporal.dim, shapes.lm.depth.steps * depth.dim),
        (depth.dim, 3 * depth.dim),
        (depth.dim, 2 * depth.ffn_hidden),
        (depth.ffn_hidden, depth.dim),
        (depth.dim, shapes.lm.card),
        (temporal.dim, shapes.lm.text_card),
    ]
    batched = (sizes[0], sizes[7])

    def case(format_: str, size: tuple[int, int], dtype: mx.Dtype, known: str = "") -> Case:
        batches = shapes.batches if size in batched else (1,)
        name = "matrix product" if FORMATS.get(format_) is None else "quantized matrix product"
        detail = (
            f"{format_} weights, {NAMES[dtype]} activations, {size[0]} to {size[1]}, "
            f"batch {'/'.join(map(str, batches))}"
        )
        run = partial(_product, size, format_, dtype, batches, shapes.outputs, noise)
        return Case(name, detail, tolerance(dtype), run, known)

    yield case("f32", sizes[1], mx.float32)
    for name, scheme in FORMATS.items():
        for size in sizes:
            yield case(name, size, activation_type(scheme))
    for name, scheme in FORMATS.items():
        if scheme and not on_gpu():
            yield case(name, sizes[1], mx.bfloat16, KNOWN)


def _product(
    size: tuple[int, int], name: str, dtype: mx.Dtype, batches: tuple[int, ...], most: int, noise: Noise
) -> Made:
    inputs, outputs = size
    kind = mx.float32 if name == "f32" else mx.bfloat16
    layer, rows_of = fill(Linear(inputs, outputs), outputs, inputs, FORMATS.get(name), noise, kind)
    rows = closed_form.some_rows(outputs, most)
    matrix = rows_of(rows).T
    index = mx.array(rows.tolist())
    got, right = [], []
    for batch in batches:
        x = mx.array(noise.normal(batch, inputs)).astype(dtype)
        got.append(numbers(layer(x)[:, index]))
        right.append(numbers(x) @ matrix)
    return np.concatenate(got), np.concatenate(right)


def fill(
    layer: Linear | Embedding,
    rows: int,
    width: int,
    scheme: Scheme | None,
    noise: Noise,
    dtype: mx.Dtype = mx.bfloat16,
) -> tuple[nn.Module, Callable[[np.ndarray], np.ndarray]]:
    """Give a layer random weights, (rows, width), quantized as a checkpoint's layers are.

    dtype: of weights that are not quantized. Returns the layer, and what gives some rows of its weights as
    float32, (n,) -> (n, width).
    """
    if scheme is None:
        layer.weight = (mx.array(noise.normal(rows, width)) * width**-0.5).astype(dtype)
        mx.eval(layer.weight)
        if isinstance(layer, Linear):
            layer.keep_transpose()
        return layer, lambda some: numbers(layer.weight[mx.array(some)])
    holder = nn.Module()
    holder["layer"] = layer
    nn.quantize(holder, class_predicate=lambda *_: scheme.block())
    made = holder["layer"]
    levels, groups = noise.words(rows, width * scheme.bits // 32), (rows, width // scheme.group_size)
    made["weight"] = mx.array(levels)
    if scheme.mode == "affine":
        step = (1 + 0.5 * np.tanh(noise.normal(*groups))) * width**-0.5 * 2.0 ** (1 - scheme.bits)
        scales = mx.array(step).astype(mx.bfloat16)
        biases = -scales * (2 ** (scheme.bits - 1))
        made["scales"], made["biases"] = scales, biases
        held = numbers(scales), numbers(biases)
    else:
        exponents = 127 - np.round(np.log2(width) / 2).astype(np.uint8) - (noise.words(*groups) % 3)
        made["scales"] = mx.array(exponents.astype(np.uint8))
        held = exponents, None
    mx.eval(made.parameters())

    def some(chosen: np.ndarray) -> np.ndarray:
        scales, biases = held[0][chosen], None if held[1] is None else held[1][chosen]
        return closed_form.dequantize(levels[chosen], scales, biases, scheme.bits, scheme.group_size)

    return made, some
