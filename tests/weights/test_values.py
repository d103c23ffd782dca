"""Sums over whole weights."""

import mlx.core as mx

from moshi_mlx.weights.values import sum_of_squares


def test_the_squares_of_a_matrix_of_seven_billions_size_are_all_counted() -> None:
    """Moshi 7B's widest has 4096 x 22528 elements; from 2^24 on a running sum of ones in float32 stands still."""
    assert sum_of_squares(mx.ones((4097, 8192))).item() == 4097 * 8192
    assert sum_of_squares(mx.full((3,), -2.0)).item() == 12
