"""Several processes that train one model together, as `mlx.launch` starts them: data parallel.

Each computes its share of the windows of a step; what they found is added up, and all take the same step. The
first one alone writes, tests and tells.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import mlx.core as mx
import numpy as np
from mlx.nn.utils import average_gradients
from mlx.utils import tree_flatten, tree_map

from moshi_mlx.distributed.group import join_group
from moshi_mlx.distributed.launcher import is_launched
from moshi_mlx.errors import ConfigError, TrainingError
from moshi_mlx.finetune.loss import Batch
from moshi_mlx.finetune.settings import Settings

T = TypeVar("T")


class Processes:
    """The processes of a training, of which this is one; without a group it is alone.

    rank: its number, from 0. Whatever waits for the others raises TrainingError once one has ended.
    """

    def __init__(self, group: mx.distributed.Group | None = None) -> None:
        self._group = group
        self.rank, self.size = (group.rank(), group.size()) if group else (0, 1)
        self.told_to_end = False

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and tells."""
        return self.rank == 0

    def check(self, settings: Settings) -> None:
        """Raise ConfigError for a batch that cannot be shared."""
        if settings.batch % self.size:
            raise ConfigError(
                f"a batch of {settings.batch} cannot be shared by {self.size} processes; "
                f"give --batch {-(-settings.batch // self.size) * self.size}"
            )

    def share(self, batch: Batch) -> Batch:
        """Return this process's windows of a batch. Weights are of the whole, so what is found of them adds up."""
        count = len(batch.tokens) // self.size
        return batch if self.size == 1 else batch.rows(self.rank * count, (self.rank + 1) * count)

    def sum(self, tree: T) -> T:
        """Add up arrays of all processes, a tree of float32."""
        if not self._group:
            return tree
        # As a list: MLX takes dots in names for branches.
        averages: Any = average_gradients([array for _, array in tree_flatten(tree)], self._group)
        sums = iter(self._waited(lambda: [array * self.size for array in averages]))
        return tree_map(lambda _: next(sums), tree)

    def wait(self) -> None:
        """Wait until all have come here."""
        self.sum(mx.zeros(1))

    def agree(self, number: int) -> bool:
        """Return whether all have the same whole number, below 2**32."""
        if not self._group:
            return True
        group = self._group
        every = self._waited(lambda: mx.distributed.all_gather(mx.array([number], mx.uint32), group=group))
        return len(set(np.array(every).tolist())) == 1

    def from_first(self, arrays: Mapping[str, mx.array]) -> dict[str, mx.array]:
        """Return the first process's arrays. arrays: of the same names, shapes and float32 in all."""
        mine = arrays if self.first else {name: mx.zeros_like(array) for name, array in arrays.items()}
        return dict(self.sum(dict(mine)))

    def _waited(self, compute: Callable[[], T]) -> T:
        try:
            found: Any = compute()
            mx.eval(found)
        except RuntimeError as error:
            raise TrainingError("another process of this training has ended") from error
        if self.told_to_end:
            raise TrainingError("this process was told to end")
        return found


def join() -> Processes:
    """Join the processes that were started together; without a launcher's environment, this one is alone.

    The signal with which a launcher ends the rest when one has died (SIGTERM) then ends this one between two
    steps, so that it says what is kept. Raises ConfigError where the others cannot be reached.
    """
    if not is_launched():
        return Processes()
    processes = Processes(join_group())

    def end(number: int, frame: object) -> None:
        processes.told_to_end = True

    if processes.size > 1 and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, end)
    return processes
