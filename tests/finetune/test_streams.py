"""Words in time: bit for bit the rows that Kyutai's trainer makes (see make_finetune_streams_golden.py)."""

import numpy as np
import pytest

from moshi_mlx.finetune.streams import Word, text_row, window_frames, word_tokens
from tests.finetune.made_up import CASES, Pieces, case
from tests.golden import ASSETS


@pytest.fixture(scope="module")
def rows() -> list[np.ndarray]:
    with np.load(ASSETS / "finetune_streams.npz") as file:
        return np.split(file["rows"], np.cumsum(file["lengths"])[:-1])


def test_rows_of_made_up_alignments_are_those_of_kyutais_trainer(rows: list[np.ndarray]) -> None:
    assert len(rows) == CASES
    spoken = 0
    for number, expected in enumerate(rows):
        alignments, start, window, there = case(number)
        words = [Word(text, begin, end, speaker) for text, (begin, end), speaker in alignments]
        recorded = min(window_frames(window), max(1, window_frames(there)))
        ours = text_row(words, start, window, Pieces().encode, recorded)
        assert ours.tolist() == expected.tolist(), f"case {number}"
        spoken += int((expected > 3).sum())
    assert spoken > 1000, "the alignments should say something"


def test_a_word_begins_in_the_frame_that_holds_its_start_and_ends_the_padding_before_it() -> None:
    words = [Word("abcdef", 0.24, 0.5), Word("ghi", 0.40, 0.5)]
    first, second = Pieces().encode("abcdef")
    assert text_row(words, 0.0, 0.8, Pieces().encode).tolist() == [
        *(3, 3, 0, first, second, *Pieces().encode("ghi"), 3, 3, 3, 3)
    ]


def test_a_window_counts_begun_frames() -> None:
    assert [window_frames(seconds) for seconds in (0.08, 0.09, 10, 100)] == [1, 2, 125, 1250]


def test_a_word_is_tokenized_without_the_spaces_around_it_and_line_by_line() -> None:
    encode = Pieces().encode
    assert word_tokens("  ab\ncd ", encode) == [*encode("ab"), *encode("\n"), *encode("cd")]
    assert word_tokens("  ", encode) == []
