"""Batches that are made on another thread while the model learns."""

from collections.abc import Iterator
from queue import Queue
from threading import Thread


def ahead(make, depth: int = 4) -> Iterator:
    """Call `make()` for ever on another thread, at most `depth` results ahead. Raises what it raises."""
    queue: Queue = Queue(depth)

    def work() -> None:
        try:
            while True:
                queue.put((make(), None))
        except Exception as error:  # or whoever waits for the next result would wait for ever
            queue.put((None, error))

    Thread(target=work, daemon=True).start()
    while True:
        made, error = queue.get()
        if error:
            raise error
        yield made
