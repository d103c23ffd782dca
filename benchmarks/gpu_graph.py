"""The graph that a GPU runs, built on any machine: both sides' workers import this file, each with its own MLX."""

from typing import Any

import mlx.core as mx


def build_gpu_graph() -> None:
    """Make one primitive, from now on, of each function that is one kernel on a GPU and many primitives on a CPU.

    What is computed then means nothing, but what Python and MLX do to build a frame's graph is what they do before
    a GPU runs it. Attention hands on its queries, the others a tanh of their input, so that numbers stay finite.
    """

    def like_input(x: mx.array, *_: Any, **__: Any) -> mx.array:
        return mx.tanh(x)

    def attention(q: mx.array, k: mx.array, v: mx.array, **_: Any) -> mx.array:
        return mx.depends(q, [k, v])

    mx.fast.rms_norm = mx.fast.layer_norm = mx.fast.rope = like_input
    mx.fast.scaled_dot_product_attention = attention
