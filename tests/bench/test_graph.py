"""Counting what MLX is asked for, on graphs small enough to count by hand."""

import subprocess
import sys

import mlx.core as mx
import mlx.nn as nn
import pytest

from moshi_mlx.bench.graph import as_on_a_gpu, counting_traces, watching


def test_primitives_kernels_and_syncs_of_a_known_graph() -> None:
    x = mx.arange(6, dtype=mx.float32)
    mx.eval(x)
    with watching() as seen:
        y = mx.exp(x.reshape(2, 3).T) + x.reshape(3, 2)
        mx.eval([y])
        assert y[0, 0].item() == 1
    assert seen.primitives == {"Reshape": 2, "Transpose": 1, "Exp": 1, "Add": 1}
    assert seen.kernels == 2
    assert seen.syncs == 2  # eval and item


def test_what_is_evaluated_later_is_counted_but_not_waited_for() -> None:
    with watching() as seen:
        mx.async_eval(mx.exp(mx.array([1.0])))
    assert (seen.kernels, seen.syncs) == (1, 0)


def test_a_function_that_is_one_kernel_on_a_gpu_counts_as_one() -> None:
    x = mx.random.normal((1, 2, 4, 8))
    table = nn.QuantizedEmbedding(10, 32, 32)
    mx.eval(x, table.parameters())
    with as_on_a_gpu(), watching() as seen:
        y = mx.fast.rms_norm(x, None, 1e-5)
        y = mx.fast.rope(y, 8, traditional=True, base=1e4, scale=1.0, offset=3)
        y = mx.fast.scaled_dot_product_attention(y, y, y, scale=1.0)
        rows = table(mx.array([[1, 2]]))
        mx.eval(y, rows)
    assert seen.primitives == {"Depends": 4, "Gather": 3, "Squeeze": 3}
    assert seen.kernels == 7
    assert y.shape == x.shape
    assert rows.shape == (1, 2, 32)


def test_traces_are_counted_once_per_shape() -> None:
    with counting_traces() as traces:
        double = mx.compile(lambda x: 2 * x)
        for length in (1, 2, 1, 2, 3):
            mx.eval(double(mx.ones(length)))
    assert traces.total() == 3


def test_everything_is_put_back_even_after_an_error() -> None:
    places = [mx.eval, mx.async_eval, mx.compile, mx.dequantize, mx.fast.rope, mx.fast.rms_norm, mx.array.item]
    with pytest.raises(ZeroDivisionError), as_on_a_gpu(), watching(), counting_traces():
        raise ZeroDivisionError
    now = [mx.eval, mx.async_eval, mx.compile, mx.dequantize, mx.fast.rope, mx.fast.rms_norm, mx.array.item]
    assert all(a is b for a, b in zip(places, now, strict=True))


def test_what_measures_times_leaves_mlx_as_it_is() -> None:
    program = "import sys, moshi_mlx.bench.times; print('moshi_mlx.bench.graph' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
