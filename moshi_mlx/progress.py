"""A progress bar in bytes, with the time that is left, on stderr."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def byte_bar(title: str, total: int, wanted: bool | None = None) -> Iterator[Callable[[int], None]]:
    """Gives the function that advances the bar by some bytes. wanted: unless given, if stderr is a terminal."""
    if not (sys.stderr.isatty() if wanted is None else wanted):
        yield lambda size: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True, force_terminal=True), transient=True) as bar:
        task = bar.add_task(title, total=total)
        yield lambda size: bar.advance(task, size)
