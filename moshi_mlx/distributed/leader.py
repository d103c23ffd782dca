"""The first of several processes: it has the engine, and tells the others what it does to its model's windows."""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import count
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import numpy as np

from moshi_mlx.distributed.channel import Channel
from moshi_mlx.distributed.group import meet
from moshi_mlx.errors import ConfigError, MoshiError, ProcessError
from moshi_mlx.models.cache import Chunk, KVCache
from moshi_mlx.models.config import TransformerConfig
from moshi_mlx.models.lm import Lm, widen_on_cpu
from moshi_mlx.models.split import Part, SplitTransformer
from moshi_mlx.weights.part import PartWeights

if TYPE_CHECKING:
    from moshi_mlx.checkpoint.checkpoint import Checkpoint

END_SECONDS = 1.2  # with what it takes to learn of it and to end: 2 seconds at most


class Leader:
    """The first process's hold of the others. Messages go out on the thread that owns MLX.

    end_seconds: in which this process may end by itself once another has gone; then it is ended.
    """

    def __init__(
        self, group: mx.distributed.Group, channels: list[Channel], end_seconds: float = END_SECONDS
    ) -> None:
        self._group, self._channels, self._end_seconds = group, channels, end_seconds
        self.part = Part(0, group.size())
        self._said: SimpleQueue[tuple[int, dict[str, Any]] | None] = SimpleQueue()  # None: one has gone
        self._error: ProcessError | None = None
        self._lost, self._closed = threading.Event(), threading.Event()
        self._lock = threading.Lock()
        self._numbers = count()  # of models and windows
        self._dropped: deque[int] = (
            deque()
        )  # windows that nobody holds any more, to be told with what is told next
        for rank, channel in enumerate(channels, 1):
            threading.Thread(
                target=self._listen, args=(rank, channel), name=f"process-{rank}", daemon=True
            ).start()

    def load_lm(
        self,
        checkpoint: Checkpoint,
        advance: Callable[[int], None] = lambda count: None,
        tell: Callable[[str], None] = lambda note: None,
    ) -> Lm:
        """Load a model in all processes: its first part here, with all that is beside the temporal transformer.

        Arguments as in `Checkpoint.load_lm`; `advance` is told of as many bytes as the whole model has.
        Raises its errors; ConfigError for a model that cannot be shared by so many processes, ProcessError where
        another process cannot load it, or has other weights of that name.
        """
        if checkpoint.adapter:
            raise ConfigError(
                f"{checkpoint.adapter.path} cannot be put on a model that processes share; merge it first: "
                f"`moshi-mlx quantize {checkpoint.name} FOLDER --recipe bf16 --lora {checkpoint.adapter.path}`"
            )
        whole = checkpoint.weights.nbytes
        block = checkpoint.settings.get("quantization")
        weights = PartWeights(checkpoint.lm_weights, checkpoint.lm_config, block, self.part)
        own = weights.nbytes
        number = self.new_number()
        self.tell("load", name=checkpoint.name, number=number)
        lm = checkpoint.load_lm(None, lambda read: advance(read * whole // own), tell, weights)
        widened = widen_on_cpu(lm)
        self._wait_for_all(weights.fingerprint, checkpoint.name)
        self.tell("share", widened=widened, dtype=_name(lm.activation_dtype))
        transformer = lm.transformer
        assert isinstance(transformer, SplitTransformer)
        transformer.share(partial(mx.distributed.all_sum, group=self._group), partial(LeadingWindow, self))
        weakref.finalize(lm, self._unload, number).atexit = False  # the others keep it as long as this process
        return lm

    def tell(self, do: str, **what: Any) -> None:
        """Tell all others to do something. Raises ProcessError where one has gone."""
        dropped = [self._dropped.popleft() for _ in range(len(self._dropped))]
        message = {"do": do, **what, **({"dropped": dropped} if dropped else {})}
        for rank, channel in enumerate(self._channels, 1):
            try:
                channel.send(message)
            except OSError:
                raise self._lose(rank) from None

    def new_number(self) -> int:
        """Return a number that no model and no window has had."""
        return next(self._numbers)

    def drop(self, number: int) -> None:
        """Let the others forget a window, in time; on any thread."""
        self._dropped.append(number)

    def close(self) -> None:
        """Let the others end."""
        self._closed.set()
        for channel in self._channels:
            with suppress(OSError):
                channel.send({"do": "stop", "code": 0})
            channel.close()

    def failure(self, seconds: float) -> ProcessError | None:
        """Return what is known of a process that has gone, after so much time for learning of it."""
        self._lost.wait(seconds)
        return self._error

    def _unload(self, number: int) -> None:
        if not self._closed.is_set():
            with suppress(ProcessError):
                self.tell("unload", number=number)

    def _wait_for_all(self, fingerprint: str, name: str) -> None:
        for _ in self._channels:
            said = self._said.get()
            if said is None:
                raise self._error or ProcessError("another process has ended")
            rank, answer = said
            if answer.get("loaded") != fingerprint:
                raise ProcessError(
                    f"process {rank} has other weights under the name {name}; copy one to all machines"
                )

    def _listen(self, rank: int, channel: Channel) -> None:
        for message in channel:
            if "error" in message:
                self._lose(rank, message["error"])
                break
            self._said.put((rank, message))
        if self._closed.is_set():
            return
        self._lose(rank)
        if not self._closed.wait(self._end_seconds):  # this process waits for a sum that will not come
            print(f"error: {self._error}", file=sys.stderr, flush=True)
            os._exit(1)

    def _lose(self, rank: int, why: str = "") -> ProcessError:
        with self._lock:
            if self._error is None:
                line = why or "it has ended, or its machine cannot be reached any more"
                self._error = ProcessError(f"process {rank} of {self.part.size}, which shares the model: {line}")
                self._lost.set()
                self._said.put(None)
                for channel in self._channels:  # which end without a word: this one tells
                    with suppress(OSError):
                        channel.send({"do": "stop", "code": 1})
        return self._error


@contextmanager
def leading(group: mx.distributed.Group) -> Iterator[Leader]:
    """Lead the other processes of a group in this block; they end with it. Errors as of `ended_together`."""
    with ended_together(Leader(group, meet(group))) as leader:
        yield leader


@contextmanager
def ended_together(leader: Leader) -> Iterator[Leader]:
    """Let the others end with this block.

    Raises ProcessError for what fails in the block because one of them has gone.
    """
    try:
        yield leader
    except RuntimeError as error:
        # MLX's own, of which others are subclasses, such as typer's way to exit
        if type(error) is RuntimeError and (failure := leader.failure(END_SECONDS / 2)):
            raise failure from error
        raise
    except MoshiError:
        if failure := leader.failure(0):  # whatever it became on its way
            raise failure from None
        raise
    finally:
        leader.close()


class LeadingWindow(KVCache):
    """A window of the first process's part; the others do to theirs what is done to it."""

    def __init__(
        self, leader: Leader, config: TransformerConfig, batch: int, step: int, dtype: mx.Dtype, bits: int | None
    ) -> None:
        super().__init__(config, batch, step, dtype, bits)
        self._leader, self._number = leader, leader.new_number()
        weakref.finalize(self, leader.drop, self._number).atexit = False  # of copies nobody is told
        self._tell("new", batch=batch, step=step, dtype=_name(dtype), bits=bits, context=config.context)

    def begin(self, count: int, rows: np.ndarray | None = None) -> Chunk:
        self._tell("step", count=count, rows=None if rows is None else rows.tolist())
        return super().begin(count, rows)

    def rewind(self, position: int = 0) -> None:
        self._tell("rewind", position=position)
        super().rewind(position)

    def reset_row(self, row: int) -> None:
        self._tell("reset_row", row=row)
        super().reset_row(row)

    def copy_row(self, row: int, other: KVCache) -> None:
        assert isinstance(other, LeadingWindow)
        self._tell("copy_row", row=row, other=other._number)
        super().copy_row(row, other)

    def give_back(self, count: int) -> None:
        self._tell("give_back", count=count)
        super().give_back(count)

    def keep_rows(self, rows: Sequence[int | None]) -> mx.array:
        self._tell("keep_rows", rows=rows)
        return super().keep_rows(rows)

    def _tell(self, do: str, **what: Any) -> None:
        self._leader.tell(do, window=self._number, **what)


def _name(dtype: mx.Dtype) -> str:
    """Return what `mx` calls a type."""
    return str(dtype).rpartition(".")[2]
