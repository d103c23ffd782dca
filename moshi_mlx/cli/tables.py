"""Tables of text, and numbers in them."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Sequence


def table(rows: Iterable[Iterable[object]], headings: Iterable[object]) -> str:
    """Columns of text, all but the first aligned to the right.

    On a terminal, cells are wrapped so that lines fit it; elsewhere a row is one line, as wide as it needs to be.
    """
    from rich.console import Console
    from rich.table import Table

    columns = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for index, heading in enumerate(headings):
        columns.add_column(str(heading), justify="right" if index else "left")
    for row in rows:
        columns.add_row(*map(_text, row))
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 10_000
    console = Console(width=width, color_system=None, markup=False, emoji=False, highlight=False)
    with console.capture() as printed:
        console.print(columns)
    return "\n".join(line.rstrip() for line in printed.get().splitlines())


def markdown(rows: Iterable[Iterable[object]], headings: Sequence[object]) -> str:
    """A table in Markdown, all columns but the first aligned to the right."""
    lines = [[str(cell).strip().replace("|", "\\|") for cell in line] for line in (headings, *rows)]
    lines.insert(1, ["---", *["---:"] * (len(headings) - 1)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def byte_size(count: float) -> str:
    """Bytes for people: 4.81 GB, 24.7 MB, 1.2 kB."""
    if count >= 1e9:
        return f"{count / 1e9:.2f} GB"
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"


def _text(cell: object) -> str:
    return f"{cell:g}" if isinstance(cell, float) and abs(cell) < 1e6 else str(cell)
