"""Several conversations through one model: their frames, taken together, are one tick of `engine.run`.

Each slot has a queue of its own; a tick takes one frame from every queue, and the batch is stepped once for all.
What else happens to a slot (joining, resetting, trimming, leaving) travels through the stages between the ticks.
Not here: where frames come from and where replies go (see `web`).
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Protocol

import numpy as np

from moshi_mlx.frames import FRAME_SECONDS, silence
from moshi_mlx.models.conditioner_config import Condition
from moshi_mlx.runtime.engine import run
from moshi_mlx.runtime.flow import FrameQueue, HeardFrame, PacedGovernor, QueueClosed
from moshi_mlx.runtime.pipeline import Spare
from moshi_mlx.runtime.prompt import Prompt
from moshi_mlx.runtime.session import Rows
from moshi_mlx.runtime.stages import Change, Control, Errand, Item, Listener, Slot, Stages, Tick
from moshi_mlx.runtime.stats import Stats
from moshi_mlx.sampling_config import SamplingConfig

PATIENCE = 0.5 * FRAME_SECONDS  # seconds that a tick waits for those whose frame is not there yet
EARNED_AFTER = 25  # ticks in a row at which a slot's frame was there, before ticks wait for it
STALLED_AFTER = (
    2.0  # seconds without a frame from anybody, before those who talk are given silence: the longest chunk
)
CHANGES_A_TICK = 1  # after which a tick that is due goes first, so that nobody's changes hold up the others
_FORGETS = {Control.RESET, Control.LEAVE}  # until they are done, a slot's frames are for what comes after them


class Errands(Protocol):
    """Work that is nobody's frame, a slice of about a frame's work at a time."""

    @property
    def waiting(self) -> bool:
        """Whether there is anything to do; asked on any thread."""
        ...

    def advance(self, until: float, /) -> bool:
        """Do one slice, on the thread that owns MLX, and return whether one was done.

        None is begun that would probably end after `until`, as the scheduler's clock counts.
        """
        ...


class QueuedSlot(Slot):
    """A slot whose frames come when they come. All methods may be called from any thread."""

    def __init__(
        self,
        scheduler: Scheduler,
        listener: Listener,
        seed: int | None,
        sampling: SamplingConfig,
        conditions: Mapping[str, Condition] | None = None,
        prompt: Prompt | None = None,
    ) -> None:
        super().__init__(listener, seed, sampling, conditions, prompt)
        self.heard = FrameQueue(PacedGovernor(), scheduler.clock, scheduler.changed)
        self.silences = 0  # ticks at which its frame was missing
        self.lag = 0.0  # seconds from the end of the last answered frame to its reply
        self.begun = False  # the rest belongs to the scheduler
        self.preparing = False  # it lives through its prompt
        self.punctual = EARNED_AFTER  # ticks in a row at which its frame was there; a newcomer is trusted
        self.asked: set[Control] = set()  # of it and not done yet
        self._scheduler = scheduler

    def prepare(self) -> None:
        """Wait until the codec is ready for a slot that has joined; may take a second."""
        session = self.talking
        if session.batch.moshi.codec.threaded:  # the first call of each direction waits for its process
            session.reset_encoder()
            session.reset_decoder()

    def hear(self, frame: HeardFrame) -> None:
        """Take one frame for the model; too many are dropped and counted."""
        with suppress(QueueClosed):  # it has left
            self.heard.put(frame)

    def reset(self) -> None:
        """Forget the conversation and begin a new one."""
        self._scheduler.ask(Control.RESET, self)

    def trim(self) -> None:
        """Forget all of the conversation but what its session remembers."""
        self._scheduler.ask(Control.TRIM, self)

    def mark_end(self) -> None:
        """Let the next frame tell the model that what it hears has ended, see `Session.mark_end`."""
        self._scheduler.ask(Control.MARK_END, self)

    def leave(self) -> None:
        """End the conversation and free its place."""
        self._scheduler.ask(Control.LEAVE, self)


class Scheduler:
    """Slots that share a batch: the stream of their ticks and changes, and the loop over it.

    clock: seconds. spare: is given what is left of the time between two ticks, by the same clock.
    errands: are done one by one while no tick is due at any time; who adds one calls `wake`.
    `run` is called on the thread that owns MLX; all else may be called from any.
    """

    def __init__(
        self,
        batch: Rows,
        stats: Stats | None = None,
        clock: Callable[[], float] = time.perf_counter,
        spare: Spare | None = None,
        errands: Errands | None = None,
    ) -> None:
        self.stats = stats or Stats()
        self.clock = clock
        self.changed = threading.Condition()
        self.slots: list[QueuedSlot] = []  # in the order of their joining
        self._batch, self._spare, self._errands = batch, spare, errands
        self._errand_is_out = False  # one at a time, so that a frame waits for no more than one slice
        self._waiting: deque[Change] = deque()  # at most one of each kind a slot
        self._closed = False
        self._changes = 0  # since the last tick
        self._next = -np.inf  # the next tick comes no earlier
        self._last = -np.inf
        self._pool = ThreadPoolExecutor(thread_name_prefix="moshi-codec") if batch.moshi.codec.threaded else None
        self.stages = Stages(batch, self.stats, self._answered, self._pool, self._prefilled)

    def run(self) -> Stats:
        """Serve until `close`; errors that are nobody's in particular are raised."""
        try:
            give = self._spare
            between = (lambda latest: give(self.spare_until(latest))) if give else None
            return run(self.stages, self, self._batch, self.stats, between)
        finally:
            for slot in self.slots:
                self.stages.close(slot)
            if self._pool:
                self._pool.shutdown()

    def close(self) -> None:
        """End all conversations after the tick at hand."""
        with self.changed:
            self._closed = True
            self.changed.notify_all()

    def wake(self) -> None:
        """Look again for something to do."""
        with self.changed:
            self.changed.notify_all()

    def join(
        self,
        listener: Listener,
        seed: int | None,
        sampling: SamplingConfig,
        conditions: Mapping[str, Condition] | None = None,
        prompt: Prompt | None = None,
    ) -> QueuedSlot:
        """Start a conversation; `listener.joined` is called when it has its place in the batch."""
        slot = QueuedSlot(self, listener, seed, sampling, conditions, prompt)
        self.ask(Control.JOIN, slot)
        return slot

    def ask(self, control: Control, slot: QueuedSlot) -> None:
        """Let something happen to a slot before the next tick; asked twice before it is done, it happens once."""
        with self.changed:
            if control in slot.asked:
                return
            if control is Control.LEAVE and Control.JOIN in slot.asked:  # who comes and goes at once is no work
                self._waiting.remove(Change(Control.JOIN, slot))
                slot.asked.clear()
                slot.heard.abandon()
                return
            slot.asked.add(control)
            if control is Control.RESET:
                slot.heard.clear()
            self._waiting.append(Change(control, slot))
            self.changed.notify_all()

    # The stream.

    def __iter__(self) -> Iterator[Item]:
        while True:
            item = None
            with self.changed:
                while not self._closed and (item := self.next_item()) is None:
                    due = self.due()
                    self.changed.wait(None if due is None else max(0.0, due - self.clock()))
            if item is None:
                return
            yield item

    def ready(self) -> bool:
        """Return whether the next item would come at once."""
        with self.changed:
            due = self._tick_due()
            return bool(self._waiting) or (due is not None and due <= self.clock())

    def next_item(self) -> Item | None:
        """Return what is to be done now; None if nothing is, at the latest until `due`."""
        with self.changed:
            due = self._tick_due()
            is_due = due is not None and due <= self.clock()
            if self._waiting and not (is_due and self._changes >= CHANGES_A_TICK):
                self._changes += 1
                return self._arrange(self._waiting.popleft())
            if is_due:
                return self._tick()
            if due is None and self._errands and not self._errand_is_out and self._errands.waiting:
                self._errand_is_out = True
                return Errand(self._run_errand)
            return None

    def _run_errand(self) -> None:
        assert self._errands
        try:
            self._errands.advance(np.inf)
        finally:
            with self.changed:
                self._errand_is_out = False
                self.changed.notify_all()

    def due(self) -> float | None:
        """Return when there may be something to do if nothing else happens, None for never."""
        tick = self._tick_due()
        times = [until for slot in self.slots if (until := slot.heard.held_until) is not None]
        return min(times if tick is None else [*times, tick], default=None)

    def spare_until(self, latest: float) -> float:
        """Return until when the time is spare: to the next tick, a frame after the last one or due before that."""
        with self.changed:
            due = self._tick_due()
            return min(latest, self._last + FRAME_SECONDS, np.inf if due is None else due)

    def _tick_due(self) -> float | None:
        """Return when the next tick comes with the frames that are there.

        A tick waits for those who have earned it: whose frames were there for two seconds. Nobody can hold up the
        others twice within that time.
        """
        going = self._going()
        came = [since for slot in going if (since := slot.heard.next_captured) is not None]
        begun = [slot for slot in going if slot.begun]
        if not came:
            if not begun:
                return None
            stalled = not any(slot.punctual for slot in begun)
            return max(self._next, self._last + (FRAME_SECONDS if stalled else STALLED_AFTER))
        awaited = any(slot.punctual >= EARNED_AFTER and slot.heard.next_captured is None for slot in begun)
        if not awaited:
            return self._next
        # From the time at which everyone's next frame should be there: people speak by clocks of their own.
        return max(self._next, max(min(came), self._last + FRAME_SECONDS) + PATIENCE)

    def _going(self) -> list[QueuedSlot]:
        """Return the slots whose frames belong into the next tick."""
        return [slot for slot in self.slots if not (slot.preparing or slot.asked & _FORGETS)]

    def _arrange(self, change: Change) -> Change:
        slot = change.slot
        assert isinstance(slot, QueuedSlot)
        slot.asked.discard(change.control)
        if change.control in (Control.JOIN, Control.RESET):
            slot.preparing = slot.prompt is not None
        if change.control is Control.JOIN:
            self.slots.append(slot)
        elif change.control is Control.LEAVE:
            if slot in self.slots:
                self.slots.remove(slot)
            slot.heard.abandon()
        elif change.control is Control.RESET:
            slot.begun = False
        return change

    def _tick(self) -> Tick:
        now = self.clock()
        items: dict[Slot, np.ndarray] = {}
        answered = []
        for slot in self._going():
            frame = slot.heard.take_now()
            if frame is not None:
                if not slot.begun and items:
                    slot.listener.align()  # the first frame is not heard, so none is lost
                items[slot] = frame.pcm
                answered.append(slot)
                slot.begun = True
                slot.punctual += 1
            elif slot.begun:
                items[slot] = silence()
                slot.silences += 1
                slot.punctual = 0
                slot.heard.ran_dry()
        for slot in self.slots:
            if slot.begun and slot.asked & _FORGETS:  # until it is done its row goes on: a pause would be a gap
                items[slot] = silence()
        self._changes = 0
        self._last = now
        self._next = max(self._next, now - FRAME_SECONDS) + FRAME_SECONDS
        return Tick(items, frozenset(answered), now)

    def _prefilled(self, slot: Slot, done: bool) -> None:
        """Let the next slice of a prompt come after a tick that is due; let who has finished it into ticks."""
        assert isinstance(slot, QueuedSlot)
        if not done:
            self.ask(Control.PREFILL, slot)
            return
        with self.changed:
            slot.preparing = False
            self.changed.notify_all()

    def _answered(self, tick: Tick) -> None:
        self.stats.tick.add(self.clock() - tick.began)
        with self.changed:  # all at once: who seems to be without a frame would be given silence
            for slot in tick.answered:
                assert isinstance(slot, QueuedSlot)
                slot.lag = slot.heard.answered()
