"""Batches that are made on another thread while the model learns."""

from collections.abc import Callable, Iterator, Sequence
from itertools import count
from queue import Queue
from threading import Thread

import numpy as np

from moshi_mlx.finetune.loss import Batch


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


def numbered(
    batch: Callable[[np.random.Generator], Batch], seeds: Sequence[int], step: int, what: str
) -> Iterator[tuple[Batch, Sequence[object]]]:
    """As `Data.batches`, ahead: every step's batch follows from the seeds and its number. what: it is made of."""
    numbers = count(step)

    def make() -> tuple[Batch, Sequence[object]]:
        number = next(numbers)
        return batch(np.random.default_rng([*seeds, number])), [f"{what} of step {number + 1}"]

    return ahead(make)
