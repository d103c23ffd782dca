"""The processes that follow the first: each does to its part of the model what the first does to its own."""

from __future__ import annotations

import os
import signal
import sys
import threading
from functools import partial
from queue import SimpleQueue
from typing import Any, NoReturn

import mlx.core as mx
import numpy as np

from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.distributed.channel import Channel
from moshi_mlx.distributed.group import meet
from moshi_mlx.errors import MoshiError
from moshi_mlx.models.cache import KVCache
from moshi_mlx.models.layers import keep_transposes, lay_for_products, recast
from moshi_mlx.models.split import Part, SplitTransformer
from moshi_mlx.models.transformer import prepare_kernels
from moshi_mlx.weights.part import PartWeights

END_SECONDS = 2.0  # for the first process to say why a sum failed


def follow(group: mx.distributed.Group, *, offline: bool = False) -> NoReturn:
    """Follow the first process until it ends, and then end this process: it has nothing of its own to keep.

    offline: never fetch a model. Ctrl-C is the first process's to hear.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a launcher's: there is nothing to end well
    [channel] = meet(group)
    follower = Follower(group, channel, offline)
    threading.Thread(target=follower.listen, name="first-process", daemon=True).start()
    try:
        follower.work()
    except MoshiError as error:
        channel.send({"error": str(error)})
    except RuntimeError as error:
        threading.Event().wait(END_SECONDS)  # `listen` ends this process if it is the first that has gone
        channel.send({"error": f"MLX failed ({error})"})
    threading.Event().wait(END_SECONDS)  # for the first to read it, and to end this process
    os._exit(1)


class Follower:
    """One part of the model, and its windows by the numbers that the first process gave them."""

    def __init__(self, group: mx.distributed.Group, channel: Channel, offline: bool) -> None:
        self._group, self._channel, self._offline = group, channel, offline
        self._part = Part(group.rank(), group.size())
        self._told: SimpleQueue[dict[str, Any]] = SimpleQueue()
        self._transformer: SplitTransformer | None = None
        self._number = -1  # of the model whose part it is
        self._windows: dict[int, tuple[KVCache, mx.Dtype]] = {}

    def listen(self) -> None:
        """Take messages as they come, on a thread of its own; end this process when told to, or left alone."""
        for message in self._channel:
            if message["do"] == "stop":
                os._exit(message["code"])
            self._told.put(message)
        print("error: the first process has ended, or its machine cannot be reached any more", file=sys.stderr)
        sys.stderr.flush()
        os._exit(1)

    def work(self) -> NoReturn:
        """Do what the first process tells."""
        while True:
            message = self._told.get()
            for number in message.pop("dropped", ()):
                self._windows.pop(number, None)
            do, number = message.pop("do"), message.pop("window", None)
            if do == "load":
                self._load(**message)
            elif do == "share":
                self._share(**message)
            elif do == "unload":
                self._unload(**message)
            elif do == "new":
                self._windows[number] = self._new_window(**message)
            elif do == "step":
                self._step(*self._windows[number], **message)
            elif do == "copy_row":
                window, _ = self._windows[number]
                other, _ = self._windows[message["other"]]
                window.copy_row(message["row"], other)
                mx.eval(window.arrays())
            else:  # a method of the window by its name
                getattr(self._windows[number][0], do)(**message)

    def _unload(self, number: int) -> None:
        if number == self._number:
            self._transformer, self._windows = None, {}
            mx.clear_cache()

    def _load(self, name: str, number: int) -> None:
        self._unload(self._number)
        self._number = number
        found = Checkpoint.resolve(name, offline=self._offline)
        weights = PartWeights(found.lm_weights, found.lm_config, found.settings.get("quantization"), self._part)
        transformer = weights.load().transformer
        assert isinstance(transformer, SplitTransformer)
        self._transformer = transformer
        self._channel.send({"loaded": weights.fingerprint})

    def _share(self, widened: bool, dtype: str) -> None:
        assert self._transformer
        if widened:
            recast(self._transformer, mx.float32, (mx.bfloat16, mx.float16))
        lay_for_products(self._transformer)
        keep_transposes(self._transformer)
        prepare_kernels(self._transformer, getattr(mx, dtype))
        self._transformer.share(partial(mx.distributed.all_sum, group=self._group))

    def _new_window(
        self, batch: int, step: int, dtype: str, bits: int | None, context: int
    ) -> tuple[KVCache, mx.Dtype]:
        assert self._transformer
        kind: mx.Dtype = getattr(mx, dtype)
        return self._transformer.new_state(batch, step, kind, bits, context), kind

    def _step(self, window: KVCache, dtype: mx.Dtype, count: int, rows: list[bool] | None) -> None:
        assert self._transformer
        x = mx.zeros((window.batch, count, self._transformer.config.dim), dtype)
        made = self._transformer(x, window, None if rows is None else np.array(rows))
        mx.eval(made, window.arrays())
