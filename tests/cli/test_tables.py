"""Tables of text: whole rows in a pipe, wrapped cells on a terminal."""

import io
import sys

import pytest

from moshi_mlx.cli.tables import table

ROWS = [("a long name", "0.0012 (0.001 to 0.002)", 1.5), ("b", "0 (0 to 0)", 12)]
HEADINGS = ("", "KL", "ms")


class Terminal(io.StringIO):
    """Standard output of a person."""

    def isatty(self) -> bool:
        return True


def test_in_a_pipe_a_row_is_a_line_with_numbers_to_the_right() -> None:
    assert table(ROWS, HEADINGS).splitlines() == [
        "                                  KL   ms",
        "a long name  0.0012 (0.001 to 0.002)  1.5",
        "b                         0 (0 to 0)   12",
    ]


@pytest.mark.parametrize("width", [20, 30, 80])
def test_on_a_terminal_no_line_is_wider_than_it(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("COLUMNS", str(width))
    text = table(ROWS, HEADINGS)
    assert max(map(len, text.splitlines())) <= width
    assert "".join(text.split()).count("0.002)") == 1, "cells are wrapped, not cut"
    assert (len(text.splitlines()) == 3) == (width == 80)
