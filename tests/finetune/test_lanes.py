"""Parts of a step at once: the same numbers."""

import mlx.core as mx

from moshi_mlx.finetune.lanes import together


def test_parts_at_once_give_what_they_give_one_by_one() -> None:
    weight = mx.random.normal((16, 16), key=mx.random.key(0))
    mx.eval(weight)

    def gradient(factor: float) -> mx.array:
        return mx.grad(lambda each: mx.sum(mx.tanh(each @ each) * factor))(weight)

    factors = [0.5, 1.0, 2.0]
    for found, factor in zip(together(gradient, factors), factors, strict=True):
        assert mx.array_equal(found, gradient(factor))
