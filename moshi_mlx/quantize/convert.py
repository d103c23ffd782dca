"""Quantizing a loaded language model."""

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from moshi_mlx.errors import QuantizationError
from moshi_mlx.models.lm import Lm
from moshi_mlx.weights.scheme import Scheme

Predicate = Callable[[str, nn.Module], bool | dict[str, Any]]
"""mlx-lm's `quant_predicate`: (layer path, layer) -> whether to quantize it, or how (bits, group_size, mode)."""


def quantize_lm(lm: Lm, scheme: Scheme, predicate: Predicate | None = None) -> dict[str, Any]:
    """Quantize every linear layer and embedding in place; return the config's `quantization` block.

    Layers whose width is no multiple of the group stay as they are, as do those `predicate` refuses.
    Arrays that several depth steps share stay shared where the steps are treated alike. Nothing is evaluated.
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


def _layers_by_weight(lm: Lm) -> list[list[str]]:
    """Paths of the layers that hold the same weight array, for each array held more than once."""
    found: dict[int, list[str]] = {}
    for path, layer in lm.named_modules():
        if isinstance(layer.get("weight"), mx.array):
            found.setdefault(id(layer["weight"]), []).append(path)
    return [paths for paths in found.values() if len(paths) > 1]
