"""A progress bar in bytes, with the time that is left, on stderr."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = bool | Callable[[float], None] | None
"""Whether a bar is drawn (None: if stderr is a terminal), or who is told instead what share is done, 0 to 1."""


@contextmanager
def byte_bar(title: str, total: int, wanted: Progress = None) -> Iterator[Callable[[int], None]]:
    """Gives the function that advances the bar by some bytes."""
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
    from rich import progress
    from rich.console import Console

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.DownloadColumn(),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=Console(stderr=True, force_terminal=True), transient=True) as bar:
        task = bar.add_task(title, total=total)
        yield lambda size: bar.advance(task, size)
