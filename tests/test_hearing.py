"""Codes heard uncertainly: others that are near, as often as asked for, and never where none is."""

import numpy as np

from training.hearing import CARD, NOTHING, confuse, nearest, scramble

LINE = np.arange(6, dtype=np.float32)[:, None] ** 2  # 0, 1, 4, 9, 16, 25


def test_the_nearest_are_those_beside_and_never_itself() -> None:
    near = nearest([LINE, -LINE], 2)
    assert near.shape == (2, 6, 2)
    assert [set(row) for row in near[0].tolist()] == [{1, 2}, {0, 2}, {0, 1}, {2, 4}, {3, 5}, {3, 4}]
    np.testing.assert_array_equal(near[0], near[1])


def test_some_become_near_ones_and_nothing_stays_nothing() -> None:
    near = nearest([LINE], 2)[0]
    rng = np.random.default_rng(1)
    changed = []
    for _ in range(200):
        codes = rng.integers(NOTHING, 6, 100)
        before = codes.copy()
        confuse(rng, codes, near, 0.5)
        other = codes != before
        assert (before[other] != NOTHING).all()
        assert (near[before[other]] == codes[other][:, None]).any(axis=1).all()
        changed.append(other[before != NOTHING].mean())
    assert 0.2 < np.mean(changed) < 0.3
    assert max(changed) < 0.7


def test_a_share_becomes_any_code() -> None:
    rng = np.random.default_rng(2)
    codes = np.full((200, 8, 50), NOTHING)
    for some in codes:
        scramble(rng, some, 0.2)
    shares = (codes != NOTHING).mean(axis=(1, 2))
    assert 0.08 < shares.mean() < 0.12
    assert shares.max() < 0.25
    assert {codes[codes != NOTHING].min(), codes.max()} == {0, CARD - 1}
