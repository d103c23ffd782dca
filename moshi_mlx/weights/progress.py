"""A progress bar, with the time that is left, on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import ProgressColumn

Progress = bool | Callable[[float], None] | None
"""Whether a bar is drawn (None: if stderr is a terminal), or who is told instead what share is done, 0 to 1."""


@contextmanager
def progress_bar(
    title: str, total: int, wanted: Progress = None, unit: str = "bytes"
) -> Iterator[Callable[[int], None]]:
    """Draw a bar while the block runs, as `wanted`; give the function that advances it by some units."""
    if callable(wanted):
        tell, done = wanted, 0

        def advance(size: int) -> None:
            nonlocal done
            done += size
            tell(done / total)

        yield advance
        return
    if not (sys.stderr.isatty() if wanted is None else wanted):
        yield lambda size: None
        return
    from rich.console import Console
    from rich.progress import Progress, TextColumn

    console = Console(stderr=True, force_terminal=True)
    with Progress(TextColumn(title), *columns(unit), console=console, transient=True) as bar:
        task = bar.add_task(title, total=total)
        yield lambda size: bar.advance(task, size)


def columns(unit: str) -> list[ProgressColumn]:
    """Return what a bar of rich shows: the bar, how many units of how many, and the time that is left."""
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

    count = [DownloadColumn()] if unit == "bytes" else [MofNCompleteColumn(), TextColumn(unit)]
    return [BarColumn(), *count, TimeRemainingColumn()]
