"""The thread that owns MLX in a server: loads the model, steps it for everyone, unloads it when nobody comes."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from typing import TYPE_CHECKING, Any

import mlx.core as mx

from moshi_mlx.errors import DownloadError
from moshi_mlx.models.layers import parameter_bytes
from moshi_mlx.planning.planner import CODEC_BYTES, held_bytes, size_of
from moshi_mlx.runtime.limits import give_back, process_limits
from moshi_mlx.runtime.scheduler import Scheduler
from moshi_mlx.runtime.stats import Stats
from moshi_mlx.sampling_config import SamplingConfig
from moshi_mlx.web.jobs import Jobs
from moshi_mlx.web.log import event
from moshi_mlx.web.model_pool import Task, tasks_of

if TYPE_CHECKING:
    from moshi_mlx.runtime.moshi import Moshi
    from moshi_mlx.tasks.caption_scheduler import CaptionScheduler
    from moshi_mlx.web.prompts import Prompts

LoadProgress = Callable[[float | None], None]
"""Called with how much is loaded, 0 to 1, None where that is not known."""


class Phase(Enum):
    """What the thread is doing."""

    LOADING = "loading"
    MISSING = "missing"  # it cannot be fetched; `again` tries once more
    READY = "ready"
    UNLOADED = "unloaded"  # nobody was there for a while; a visit loads it again
    ENDED = "ended"


class ModelThread:
    """All but the work itself happens on the event loop that `start` was called on.

    load: returns the Moshi, called on the thread. size: how many conversations there may be at once.
    prompts: makes what clients may ask for of the Moshi, None where it takes no prompt; called on the thread.
    captions: likewise makes what writes down the words of those who talk, None for nothing.
    jobs: what else the thread is to do; all it does where the model does not talk. loaded: told of the model, on
        the thread, and of the bytes that it and its conversations hold. unloaded: called on the thread, to forget
        it; coming: before it is loaded again.
    unload_after: seconds without a visit, after which the model is unloaded; None: never.
    keep_thread: for a program that ends with its model: the thread sleeps when its work is done. If it ends while
        the interpreter does, MLX may abort (seen in 0.32).
    """

    def __init__(
        self,
        load: Callable[[LoadProgress], Moshi],
        size: int,
        keep_thread: bool = False,
        prompts: Callable[[Moshi], Prompts | None] = lambda moshi: None,
        captions: Callable[[], CaptionScheduler | None] = lambda: None,
        jobs: Jobs | None = None,
        loaded: Callable[[Moshi, float], None] = lambda moshi, held: None,
        unloaded: Callable[[], None] = lambda: None,
        coming: Callable[[], None] = lambda: None,
        unload_after: float | None = None,
    ) -> None:
        self.phase = Phase.LOADING
        self.progress: float | None = None
        self.problem = ""  # why it is missing, for people
        self.sampling = SamplingConfig()  # the model's own, once it is ready
        self.prompts: Prompts | None = None  # once it is ready, if it takes any
        self.captions: CaptionScheduler | None = None  # once it is ready, if anybody's words are written down
        self.conditions: dict[str, dict[str, Any]] = {}  # name -> its values, and the one of who asks for none
        self.about: dict[str, Any] = {"captions": None}  # what clients are told of prompts and captions
        self.talks = True  # until it is ready and known better
        self.again_after_idle = False  # whether what is loaded was there before
        self.stats = Stats()
        self._make_prompts, self._make_captions = prompts, captions
        self._jobs, self._tell_loaded = jobs or Jobs(), loaded
        self._tell_unloaded, self._tell_coming, self._unload_after = unloaded, coming, unload_after
        self._visits = 0
        self._timer: asyncio.TimerHandle | None = None
        self._leaving, self._wanted = threading.Event(), threading.Event()
        self._load, self._size, self._keep_thread = load, size, keep_thread
        self._loop: asyncio.AbstractEventLoop | None = None
        self._began = 0.0
        self._scheduler: Scheduler | None = None
        self._error: BaseException | None = None
        self._watchers: set[Callable[[], None]] = set()
        self._ready = asyncio.Event()
        self._ended = asyncio.Event()
        self._closing = threading.Event()
        self._again = threading.Event()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="moshi-model", daemon=True)

    def start(self) -> None:
        """Begin to load; on the event loop."""
        self._loop = asyncio.get_running_loop()
        self._began = time.monotonic()
        self._thread.start()

    @property
    def scheduler(self) -> Scheduler:
        """What steps the model for everyone, once it is ready."""
        assert self._scheduler, "asked before it was ready"
        return self._scheduler

    def again(self) -> None:
        """Load once more, after what was wrong with the network, or another model."""
        self._set_phase(Phase.LOADING)
        self._again.set()

    async def ready(self, watch: Callable[[], None]) -> None:
        """Wait for the model; `watch` is called whenever `progress` or `phase` changes before."""
        self._watchers.add(watch)
        try:
            await self._ready.wait()
        finally:
            self._watchers.discard(watch)

    @contextmanager
    def visit(self) -> Iterator[None]:
        """Keep the model as long as the block lasts, and load it again if it is not there."""
        self._visits += 1
        self._settle()
        try:
            yield
        finally:
            self._visits -= 1
            self._settle()

    async def ended(self) -> None:
        """Wait for the end of the work; raises what ended it."""
        await self._ended.wait()
        if self._error:
            raise self._error

    @property
    def working(self) -> bool:
        """Whether the thread is in MLX."""
        return self._thread.is_alive() and not self._done.is_set()

    def join(self, seconds: float) -> None:
        """Wait for the end of the work; not on the event loop."""
        self._done.wait(seconds)
        if not self._keep_thread:
            self._thread.join(seconds)

    def close(self) -> None:
        """End all conversations after the frame at hand."""
        self._closing.set()
        self._again.set()
        if self._timer:
            self._timer.cancel()
        self._jobs.close()
        if self._scheduler:
            self._scheduler.close()

    # On the thread.

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            while not self._closing.is_set():
                self._use(self._loaded())  # which holds the only reference
                if not self._closing.is_set():
                    self._forget()
                    self._jobs.run(until=self._wanted)
                    self._tell_coming()
        except BaseException as caught:  # carried to the event loop, whatever it is
            error = caught
        self._jobs.abandon()
        if self.captions:
            self.captions.close()
        self._tell(self._set_ended, error)
        del error  # with all that it holds
        self._done.set()
        if self._keep_thread:
            threading.Event().wait()

    def _use(self, moshi: Moshi | None) -> None:
        """Serve until the end, or until nobody has visited for long enough."""
        if moshi is None or self._closing.is_set():
            return
        if Task.TALK in tasks_of(moshi.lm.config, False):
            self._let_talk(moshi)
        else:
            self._serve_requests(moshi)

    def _let_talk(self, moshi: Moshi) -> None:
        moshi.warm_up(self._size, moshi.sampling)
        self.sampling, self.prompts = moshi.sampling, self._make_prompts(moshi)
        self.conditions = {
            name: {"values": list(values), "default": moshi.conditions[name]}
            for name, values in moshi.lm.config.named_conditions.items()
        }
        self.captions = self._make_captions()
        self.about = {"captions": self.captions.name if self.captions else None}
        self.about |= self.prompts.about if self.prompts else {}
        batch = moshi.batch(self._size)
        self._scheduler = Scheduler(batch, self.stats, spare=self._spare, errands=self._jobs)
        self._jobs.woken = self._scheduler.wake
        self._tell_loaded(moshi, batch.held_bytes + CODEC_BYTES)
        self._tell(self._set_ready)
        if self._closing.is_set():  # it was set while there was no scheduler to close
            self._scheduler.close()
        self._scheduler.run()

    def _forget(self) -> None:
        """Give back the memory of the model, and of all that was made of it."""
        self._jobs.woken = lambda: None
        if self.captions:
            self.captions.close()
        self.captions = self.prompts = self._scheduler = None
        self._tell_unloaded()
        give_back()
        self._leaving.clear()
        event("unloaded", why="idle", held_mb=mx.get_active_memory() / 1e6)

    def _serve_requests(self, moshi: Moshi) -> None:
        """Do nothing but jobs: the model does not talk."""
        config, weights = moshi.lm.config, parameter_bytes(moshi.lm)
        self.talks = False
        self._tell_loaded(moshi, held_bytes(weights, size_of(config), moshi.kv_bits or 16))
        self._tell(self._set_ready)
        with process_limits(weights):
            if not self._closing.is_set():
                self._jobs.run(until=self._leaving)

    def _spare(self, until: float) -> None:
        """Use what is left of the time to the next tick: words of those who talk, then jobs."""
        if self.captions:
            self.captions.work(until)
        self._jobs.work(until)

    def _loaded(self) -> Moshi | None:
        """Load the model; if it cannot be had, once more whenever told to. None when there is no use for it."""
        while not self._closing.is_set():
            try:
                return self._load(lambda progress: self._tell(self._set_progress, progress))
            except DownloadError as error:
                self._tell(self._set_phase, Phase.MISSING, str(error))
            self._again.wait()
            self._again.clear()
        return None

    def _tell(self, function: Callable[..., None], *arguments: object) -> None:
        assert self._loop
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(function, *arguments)

    # On the event loop.

    def _set_progress(self, progress: float | None) -> None:
        self.progress = progress
        self._watched()

    def _set_phase(self, phase: Phase, problem: str = "") -> None:
        self.phase, self.problem = phase, problem
        if problem:
            event("missing", level=logging.WARNING, why=problem)
        self._watched()

    def _watched(self) -> None:
        for watch in list(self._watchers):
            watch()

    def _set_ready(self) -> None:
        self.phase = Phase.READY
        self._ready.set()
        event("ready", seconds=time.monotonic() - self._began)
        self._settle()

    def _settle(self) -> None:
        """Load the model if somebody wants it and it is not there; unload it later if nobody does."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if self._visits and self.phase is Phase.UNLOADED:
            self.progress, self.again_after_idle = None, True
            self._began = time.monotonic()
            self._set_phase(Phase.LOADING)
            self._wanted.set()
            self._jobs.wake()
        elif not self._visits and self.phase is Phase.READY and self._unload_after is not None:
            self._timer = asyncio.get_running_loop().call_later(self._unload_after, self._unload)

    def _unload(self) -> None:
        self._ready.clear()
        self._wanted.clear()
        self._set_phase(Phase.UNLOADED)
        self._leaving.set()
        if self._scheduler:
            self._scheduler.close()
        self._jobs.wake()

    def _set_ended(self, error: BaseException | None) -> None:
        self.phase = Phase.ENDED
        self._error = error
        self._ended.set()
