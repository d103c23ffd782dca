"""Codes that are heard uncertainly, for whoever learns from them: others that are near could have come as well."""

from collections.abc import Sequence

import numpy as np

NOTHING = -1  # a code that is not there
CARD = 512  # codes of a codebook


def nearest(tables: Sequence[np.ndarray], count: int) -> np.ndarray:
    """The codes nearest to each code, without itself, [books, card, count].

    tables: of vectors, [card, width] each.
    """
    found = []
    for table in tables:
        distances = (table**2).sum(1) - 2 * table @ table.T  # but for what is the same in a row
        np.fill_diagonal(distances, -np.inf)
        found.append(distances.argsort(axis=1)[:, 1 : 1 + count])
    return np.stack(found)


def confuse(rng: np.random.Generator, codes: np.ndarray, near: np.ndarray, most: float) -> None:
    """Exchange some of `codes` (frames,) for near ones: a share of up to `most`, drawn anew each time.

    near: [card, count].
    """
    some = (rng.random(codes.shape) < rng.uniform(0, most)) & (codes != NOTHING)
    codes[some] = near[codes[some], rng.integers(0, near.shape[1], int(some.sum()))]


def scramble(rng: np.random.Generator, codes: np.ndarray, most: float) -> None:
    """Exchange some of `codes` (any shape) for any of CARD: a share of up to `most`, drawn anew each time."""
    wrong = rng.random(codes.shape) < rng.uniform(0, most)
    codes[wrong] = rng.integers(0, CARD, int(wrong.sum()))
