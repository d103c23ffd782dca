"""Layers of one kind laid side by side, so that one kernel serves them all."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import TypeVar

import mlx.core as mx
import mlx.nn as nn

M = TypeVar("M", bound=nn.Module)

ROWS = ("weight", "scales", "biases")  # what has a row per output, or per entry of a table


def stack_rows(layers: Sequence[M]) -> M | None:
    """One layer or table with the rows of all; None if there are none, or of several kinds, or with children.

    The layers' own arrays become views of the stacked ones, so that nothing is held twice.
    """
    if not layers or any(layer.children() or set(layer) - set(ROWS) for layer in layers):
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
