"""docs/troubleshooting.md lists messages that the package really gives, and docs/python.md all public names."""

import ast
import re
from pathlib import Path

import pytest

import moshi_mlx

ROOT = Path(__file__).parents[1]


def skeleton(text: str) -> str:
    """A message in which every value is one `…` and every gap one space."""
    return re.sub(r"…+", "…", " ".join(text.split()))


def parts_of(node: ast.AST) -> str | None:
    """The text of a string in the source, with `…` for its values; None for anything else."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=values):
            return "".join(parts_of(value) or "…" for value in values)
    return None


@pytest.fixture(scope="module")
def source() -> set[str]:
    """Every string of the package as a skeleton."""
    files = (ROOT / "moshi_mlx").rglob("*.py")
    nodes = (node for file in files for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    return {skeleton(text) for node in nodes if (text := parts_of(node))}


def test_the_messages_are_those_of_the_package(source: set[str]) -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    messages = [match[2].strip() for row in rows if (match := re.match(r"\| (`+)(.+?)(?<!`)\1 \| ", row))]
    assert len(messages) == len(rows) > 40
    assert [message for message in messages if skeleton(message) not in source] == []


def test_every_public_name_is_explained() -> None:
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    explained = set(re.findall(r"`(\w+)", "\n".join(re.findall(r"^\* `.*$", page, re.MULTILINE))))
    assert set(moshi_mlx.__all__) <= explained
