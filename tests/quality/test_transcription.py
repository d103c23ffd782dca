"""Word error rates and errors of word times."""

import itertools

import numpy as np
import pytest

from moshi_mlx.quality.transcription import WordErrors, aligned, normalized, time_errors, word_errors
from moshi_mlx.tasks.words import Word


def test_case_and_punctuation_do_not_count() -> None:
    assert normalized(" Don\u2019t stop, \u2018Mr\u2019 well-known Ch\u00e2teau! -- ") == [
        "don't", "stop", "mr", "well-known", "ch\u00e2teau",
    ]  # fmt: skip
    assert word_errors("Don't stop.", "don\u2019t STOP").rate == 0


def test_word_errors_are_counted_by_kind() -> None:
    found = word_errors("the cat sat on the mat", "the cat sad on mat today")
    assert found == WordErrors(words=6, substitutions=1, deletions=1, insertions=1)
    assert found.errors == 3
    assert found.rate == pytest.approx(0.5)
    assert (found + word_errors("yes", "yes")).rate == pytest.approx(3 / 7)
    assert word_errors("", "").rate == 0
    assert word_errors("", "noise").rate == float("inf")


def test_the_alignment_has_the_fewest_errors() -> None:
    random = np.random.RandomState(0)
    for _ in range(30):
        right, found = (["abc"[i] for i in random.randint(0, 3, random.randint(0, 6))] for _ in range(2))
        pairs = aligned(right, found)
        assert [i for i, _ in pairs if i is not None] == list(range(len(right)))
        assert [j for _, j in pairs if j is not None] == list(range(len(found)))
        errors = sum(i is None or j is None or right[i] != found[j] for i, j in pairs)
        assert errors == fewest(right, found)


def fewest(right: list[str], found: list[str]) -> int:
    """By trying: which words of both are put side by side, in order; the others are errors each."""
    least = max(len(right), len(found))
    for count in range(min(len(right), len(found)) + 1):
        for some in itertools.combinations(range(len(right)), count):
            for others in itertools.combinations(range(len(found)), count):
                wrong = sum(right[i] != found[j] for i, j in zip(some, others, strict=True))
                least = min(least, wrong + len(right) + len(found) - 2 * count)
    return least


def test_times_are_compared_where_words_agree() -> None:
    right = [Word("Hello", 1.0, 1.4), Word("big", 1.5, 1.7), Word("sea!", 2.0, 2.3)]
    found = [Word("hello,", 1.08, 1.5), Word("a", 1.5, 1.6), Word("pig", 1.6, 1.8), Word("sea", 1.9, 2.2)]
    np.testing.assert_allclose(time_errors(right, found), [0.08, -0.1])
    assert time_errors(right, []).shape == (0,)
