"""The check names what is wrong: faults are put into the package's own functions, one at a time.

Every operation runs at small shapes, in the order of `moshi-mlx doctor --check`, up to the first one that differs.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import pytest

from moshi_mlx.doctor.check.comparison import Outcome, judge
from moshi_mlx.doctor.check.shapes import SMALL
from moshi_mlx.doctor.check.worker import cases
from moshi_mlx.models import cache, mimi, rope, seanet, transformer
from moshi_mlx.models import layers as model_layers
from moshi_mlx.runtime import sampling
from moshi_mlx.weights.quantization import Scheme

Patch = pytest.MonkeyPatch


def first_wrong() -> Outcome:
    """The first operation that differs."""
    return next(outcome for outcome in map(judge, cases(SMALL)) if outcome.status == "wrong")


def wrapped(patch: Patch, owner: object, name: str, around: Callable[..., Any]) -> None:
    """Replace a function by one that is given the function and its arguments."""
    function = getattr(owner, name)
    patch.setattr(owner, name, lambda *given, **named: around(function, *given, **named))


def window_of_one_more(patch: Patch) -> None:
    def begin(init: Any, self: cache.KVCache, config: Any, *more: Any, **named: Any) -> None:
        init(self, replace(config, context=config.context + 1), *more, **named)

    wrapped(patch, cache.KVCache, "__init__", begin)


def tanh_gelu(patch: Patch) -> None:
    def forward(_: Any, self: transformer.TransformerLayer, x: mx.array) -> mx.array:
        return self.linear2(nn.gelu_approx(self.linear1(x)))

    wrapped(patch, transformer.TransformerLayer, "_feed_forward", forward)


def swapped_halves(patch: Patch) -> None:
    other = {"rope": "rope_concat", "rope_concat": "rope"}

    def rotate(function: Any, x: mx.array, table: mx.array, config: Any) -> mx.array:
        return function(x, table, replace(config, rope=other[config.rope]))

    patch.setattr(rope, "use_table", lambda: True)  # also on a GPU
    wrapped(patch, rope, "rotate", rotate)


def narrow_sums(patch: Patch) -> None:
    def product(_: Any, self: model_layers.Linear, x: mx.array) -> mx.array:
        total = mx.zeros((), x.dtype)
        for part, weights in zip(mx.split(x, 32, axis=-1), mx.split(self["weight"], 32, axis=-1), strict=True):
            total = total + part @ weights.T  # rounded after every eight products
        return total

    wrapped(patch, model_layers.Linear, "__call__", product)


def stale_trace(patch: Patch) -> None:
    def compiled(_: Any, function: Any, **named: Any) -> Any:
        first: list[Any] = []

        def call(*given: Any) -> Any:
            first.append(given[-1])
            return function(*given[:-1], first[0])  # the positions of the first call, for ever

        return call

    wrapped(patch, transformer, "compiled", compiled)


def group_of_twice_the_size(patch: Patch) -> None:
    wrapped(patch, Scheme, "block", lambda block, self: block(replace(self, group_size=2 * self.group_size)))


def keys_for_values(patch: Patch) -> None:
    wrapped(patch, cache.Ring, "read", lambda read, *given: read(*given)[::-1])


def keys_for_values_in_int8(patch: Patch) -> None:
    wrapped(patch, cache.QuantizedRing, "read", lambda read, *given: read(*given)[::-1])


def nothing_masked(patch: Patch) -> None:
    wrapped(patch, cache.KVCache, "_mask", lambda mask, *given: mx.ones_like(mask(*given)))


def mask_not_used(patch: Patch) -> None:
    wrapped(patch, cache, "attend", lambda attend, q, k, v, mask: attend(q, k, v, None))


def last_row_for_no_token(patch: Patch) -> None:
    wrapped(patch, model_layers, "_zero_where_negative", lambda _, ids, rows: rows)


def scale_forgotten(patch: Patch) -> None:
    def attend(function: Any, q: mx.array, *more: Any) -> mx.array:
        return function(q * q.shape[-1] ** 0.5, *more)

    wrapped(patch, cache, "attend", attend)


def rows_mixed_up(patch: Patch) -> None:
    def extend(function: Any, self: cache.KVCache, layer: int, both: list[mx.array], chunk: Any) -> Any:
        return function(self, layer, [part[::-1] for part in both] if self.batch > 1 else both, chunk)

    wrapped(patch, cache.KVCache, "extend", extend)


def keys_rebased_backwards(patch: Patch) -> None:
    wrapped(patch, cache.KVCache, "rotate_keys", lambda rotate, self, shift: rotate(self, -shift))


def no_past(patch: Patch) -> None:
    def shift(function: Any, self: seanet.ConvState, x: mx.array) -> mx.array:
        return mx.zeros_like(function(self, x))

    wrapped(patch, seanet.ConvState, "shift", shift)


def begun_in_silence(patch: Patch) -> None:
    def new_state(function: Any, self: seanet.Downsample, batch: int) -> Any:
        state = function(self, batch)
        state.fresh = [False] * batch
        return state

    wrapped(patch, seanet.Downsample, "new_state", new_state)


def entries_by_direction(patch: Patch) -> None:
    def encode(_: Any, self: mimi.Codebook, x: mx.array) -> mx.array:
        return (x @ self.embedding.T).argmax(axis=-1).astype(mx.int32)  # however long they are

    wrapped(patch, mimi.Codebook, "encode", encode)


def one_token_too_few(patch: Patch) -> None:
    def best(function: Any, logits: mx.array, k: int) -> mx.array:
        found = function(logits, k)
        return mx.concatenate([found[:, 1:], found[:, -1:]], axis=1)

    wrapped(patch, sampling, "_best", best)


FAULTS = {
    window_of_one_more: "window",
    tanh_gelu: "GELU",
    swapped_halves: "rotary positions",
    narrow_sums: "matrix product",
    stale_trace: "compiled temporal transformer",
    group_of_twice_the_size: "embedding",
    keys_for_values: "window",
    keys_for_values_in_int8: "int8 window",
    nothing_masked: "masked window",
    mask_not_used: "attention",
    last_row_for_no_token: "embedding",
    scale_forgotten: "attention",
    rows_mixed_up: "window",
    keys_rebased_backwards: "rebased window",
    no_past: "transposed convolution",
    begun_in_silence: "downsampling",
    entries_by_direction: "codebook",
    one_token_too_few: "sampling",
}


@pytest.mark.parametrize(("fault", "operation"), FAULTS.items(), ids=lambda one: getattr(one, "__name__", ""))
def test_a_fault_is_named(fault: Callable[[Patch], None], operation: str, monkeypatch: Patch) -> None:
    fault(monkeypatch)
    outcome = first_wrong()
    assert outcome.operation == operation, outcome
    assert outcome.problem or (outcome.error is not None and outcome.error > outcome.tolerance)


@pytest.mark.parametrize("table", [True, False], ids=["angles from a table", "angles from the kernel"])
def test_without_a_fault_nothing_is_wrong(table: bool, monkeypatch: Patch) -> None:
    monkeypatch.setattr(rope, "use_table", lambda: table)
    assert [outcome for outcome in map(judge, cases(SMALL)) if outcome.status == "wrong"] == []
