"""The table of checkpoints in docs/models.md: each row has a test that is there, each name of ours a row."""

import re
from pathlib import Path

import pytest

from moshi_mlx.checkpoint import nano
from moshi_mlx.checkpoint.names import ALIASES
from moshi_mlx.checkpoint.others import BY_REPOSITORY

TESTS = Path(__file__).parent
PAGE = (TESTS.parent / "docs/models.md").read_text()
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if line.startswith("| ") and not line.startswith("| checkpoint ")
]
NAMED = sorted(set(re.findall(r"`([\w/]+\.py::\w+)`", PAGE)))


@pytest.mark.parametrize("name", NAMED)
def test_a_test_that_the_page_names_is_there(name: str) -> None:
    file, _, test = name.partition("::")
    assert re.search(rf"^def {test}\(", (TESTS / file).read_text(), re.MULTILINE)


def test_every_row_says_what_shows_it() -> None:
    assert len(ROWS) > 30
    above = ""
    for row in ROWS:
        checkpoint, _, state, shown = row
        assert re.match(r"works|refused|`python", state), checkpoint
        assert "::" in shown or (shown == "the same" and above), checkpoint
        above = shown


def test_every_alias_stands_in_the_row_of_its_repository() -> None:
    of_rows = {alias: row[0] for row in ROWS for alias in re.findall(r"`([\w.-]+)`", row[1])}
    assert set(of_rows) == {*ALIASES, *nano.EMBEDDED}
    for alias, repository in ALIASES.items():
        stem = re.sub(r"-(q4|q8|bf16)$", "", repository)
        assert stem.removesuffix("-mlx") in of_rows[alias], alias


def test_every_repository_that_is_refused_has_a_row() -> None:
    checkpoints = " ".join(row[0].lower() for row in ROWS)
    assert all(start in checkpoints for start in BY_REPOSITORY)
