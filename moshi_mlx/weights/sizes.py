"""Sizes that a config asks for, held against the file's own tensors before anything is made from them. No MLX.

What is within these bounds may still not fit, and is compared tensor by tensor afterwards. Beyond them that cannot
be done: a config of two lines may ask for more layers than any machine can make.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from moshi_mlx.errors import ConfigError
from moshi_mlx.models.conditioner_config import LutConfig
from moshi_mlx.models.config import LmConfig
from moshi_mlx.weights.safetensors import TensorInfo

PER_BYTE = 4  # numbers, at most, that a byte of a quantized matrix stands for: two bits each
STEPS_PER_TENSOR = 64  # layers of all depth steps: steps that share weights have no tensors of their own
_LAYERS = r"transformer\.layers\.(\d+)\."
_DEPTH_LAYERS = r"depformer\.(?:.+\.)?layers\.(\d+)\."
_EXTRA_HEADS = r"extra_heads\.(\d+)\."


def check_sizes(config: LmConfig, tensors: Mapping[str, TensorInfo], path: Path) -> None:
    """Raise ConfigError, with the field and what it needs, if a config asks for more than a file can hold.

    tensors: of the file at `path`, by their names without wrappers, in any layout.
    """
    total = len(tensors)
    for field, count, what, there in _counts(config, tensors):
        if count > there:
            raise ConfigError(
                f"config field '{field}' is {count}; it needs {count} {what}, but {path} has {there}"
            )
    if (depth := config.depth) and depth.steps * depth.transformer.num_layers > STEPS_PER_TENSOR * total:
        layers = depth.transformer.num_layers
        raise ConfigError(
            f"config field 'depformer_num_layers' is {layers}; {depth.steps} depth steps of as many layers are "
            f"more than the {total} tensors of {path} can be for"
        )
    largest = max(map(numbers, tensors.values()), default=0)
    for field, value, shape in _widths(config):
        if (need := math.prod(shape)) > largest:
            matrix = f"a matrix of {shape[0]} x {shape[1]} = {need} numbers"
            raise ConfigError(
                f"config field '{field}' makes {value}; it needs {matrix}, but the largest of {path} has {largest}"
            )


def numbers(tensor: TensorInfo) -> int:
    """Return how many numbers a tensor stands for, at most."""
    return tensor.nbytes * PER_BYTE if tensor.dtype == "U32" else math.prod(tensor.shape)


def _counts(config: LmConfig, tensors: Iterable[str]) -> Iterator[tuple[str, int, str, int]]:
    """Give what is counted: field, how many it asks for, of what, and how many the file has."""
    names = list(tensors)
    yield "num_layers", config.transformer.num_layers, "layers", _found(_LAYERS, names)
    yield "n_q", config.n_q, "tensors and more", len(names)
    yield "extra_heads_num_heads", config.extra_heads, "heads", _found(_EXTRA_HEADS, names)
    if config.depth:
        layers = config.depth.transformer.num_layers
        yield "depformer_num_layers", layers, "layers in each depth step", _found(_DEPTH_LAYERS, names)


def _found(pattern: str, names: Iterable[str]) -> int:
    return len({match[1] for name in names if (match := re.match(pattern, name))})


def _widths(config: LmConfig) -> Iterator[tuple[str, str, tuple[int, int]]]:
    """Give a matrix that each width is a side of: field, the width in words, and the matrix's shape."""
    lm, depth = config.transformer, config.depth
    yield "dim", f"a width of {lm.dim}", (lm.dim, lm.dim)
    yield "hidden_scale", f"feed-forward blocks of {lm.ffn_hidden}", (lm.ffn_hidden, lm.dim)
    yield "text_card", f"{config.text_card} texts", (config.text_card, lm.dim)
    if config.n_q:
        yield "card", f"{config.card} codes", (config.card, lm.dim)
    if config.extra_heads:
        yield "extra_heads_dim", f"{config.extra_heads_dim} classes", (config.extra_heads_dim, lm.dim)
    for name, each in config.conditioners.items():
        kind = "lut" if isinstance(each, LutConfig) else "tensor"
        yield f"conditioners.{name}.{kind}.dim", f"a width of {each.dim}", (each.dim, lm.dim)
        if isinstance(each, LutConfig):
            yield f"conditioners.{name}.lut.n_bins", f"{each.n_bins} values", (each.n_bins, each.dim)
    if depth:
        inner, low = depth.transformer, depth.low_rank_embeddings
        yield "depformer_dim", f"a width of {inner.dim}", (inner.dim, inner.dim)
        feed_forward = f"feed-forward blocks of {inner.ffn_hidden}"
        yield "depformer_dim_feedforward", feed_forward, (inner.ffn_hidden, inner.dim)
        if low:
            yield "depformer_low_rank_embeddings", f"embeddings of {low}", (low, inner.dim)
