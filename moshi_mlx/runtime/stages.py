"""The one set of stages that every item of a stream goes through: encode, generate, decode.

A `Tick` is one frame of every conversation that has one. What else happens to a conversation (joining, resetting,
trimming, leaving) is a `Change`, which travels through the stages between ticks: what came before it is finished,
what comes after it finds it done. An `Errand` is done between them.
Not here: the loop over a stream (see `engine`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Protocol, TypeVar

import numpy as np

from moshi_mlx.errors import MoshiError
from moshi_mlx.models.conditioner_config import Condition
from moshi_mlx.runtime.prompt import PREFILL_POSITIONS, Prompt
from moshi_mlx.runtime.reply import Reply
from moshi_mlx.runtime.session import Rows, Session
from moshi_mlx.runtime.stats import Stats
from moshi_mlx.sampling_config import SamplingConfig, new_seed

T = TypeVar("T")

PREFILL_SLICE = 16  # positions of a prompt that others' frames may have to wait for: as long as a step or two


class Control(Enum):
    """What can happen to a conversation between its frames."""

    JOIN = "join"  # it gets its place in the batch
    PREFILL = "prefill"  # it lives through another slice of its prompt, see `Stages`
    RESET = "reset"  # it is forgotten, and a new one begins
    TRIM = "trim"  # the model forgets all of it but what its session remembers
    MARK_END = "mark end"  # its next frame says that what the model hears has ended, see `Session.mark_end`
    LEAVE = "leave"  # it ends


RESET, TRIM, MARK_END = Control.RESET, Control.TRIM, Control.MARK_END


class Listener(Protocol):
    """Whom a conversation talks with. All methods are called on the threads of the loop, so they must be quick."""

    def joined(self) -> None:
        """The conversation has its place."""
        ...

    def align(self) -> None:
        """A frame of this listener would be taken at once if it ended now, or whole frames later."""
        ...

    def write(self, reply: Reply) -> None:
        """Take one reply, in order."""
        ...

    def began_anew(self) -> None:
        """The replies from here on belong to a new conversation."""
        ...

    def failed(self, error: MoshiError) -> None:
        """Nothing more will come; the conversation is still to be told to leave."""
        ...


class Slot:
    """One conversation's place in the loop. Without a seed, every new conversation in it has another."""

    def __init__(
        self,
        listener: Listener,
        seed: int | None = None,
        sampling: SamplingConfig | None = None,
        conditions: Mapping[str, Condition] | None = None,
        prompt: Prompt | None = None,
    ) -> None:
        self.listener = listener
        self.seed, self.sampling, self.conditions, self.prompt = seed, sampling, conditions, prompt
        self.session: Session | None = None  # until it has its row
        self.joined = False  # and its listener knows
        self.prefilling: Iterator[None] | None = None  # what is left of its prompt, in slices
        self.broken = False  # it has failed, and its listener knows

    @property
    def talking(self) -> Session:
        """The session of a slot that has joined."""
        assert self.session, "a frame of a slot that has not joined"
        return self.session


@dataclass(frozen=True)
class Tick:
    """One frame of every conversation that has begun: what each hears, its codes, what was generated, by stage.

    answered: the slots whose frame is one of their own and not filled in. began: when it was taken, by the
    stream's clock.
    """

    items: Mapping[Slot, Any]
    answered: frozenset[Slot] = frozenset()
    began: float = 0.0


@dataclass(frozen=True)
class Change:
    """Something that happens to one conversation."""

    control: Control
    slot: Slot


@dataclass(frozen=True)
class Errand:
    """Something that is nobody's frame, for the thread that owns MLX to do when it has nothing else to do."""

    run: Callable[[], None]


Item = Tick | Change | Errand


class Stages:
    """What is done with every item of a stream, for all slots of a batch.

    answered: told of every tick when all its replies are made, before the listeners get them.
    pool: on which streams of a codec outside MLX are closed.
    prefilled: told on the thread that owns MLX when a slot has lived through a slice of its prompt, and whether
    that was the last; the next one is to be asked for with Control.PREFILL. Unless given, all of it is lived
    through at once.
    """

    def __init__(
        self,
        batch: Rows,
        stats: Stats,
        answered: Callable[[Tick], None] = lambda tick: None,
        pool: ThreadPoolExecutor | None = None,
        prefilled: Callable[[Slot, bool], None] | None = None,
    ) -> None:
        self._batch, self._stats, self._answered, self._pool = batch, stats, answered, pool
        self._prefilled = prefilled

    def encode(self, item: Item) -> Callable[[], Item]:
        """On the thread of the encoder: begin to turn frames into codes. Returns what waits for them."""
        if isinstance(item, Tick):
            finish = self._stats.encode.begun(lambda: self._batch.encode(_of_whole(item)))

            def encoded() -> Tick:
                codes = finish()
                return replace(
                    item, items={slot: self._codes(slot, codes.get(slot.talking)) for slot in item.items}
                )

            return encoded
        if isinstance(item, Errand):
            return lambda: item
        if item.control is RESET:
            self._guarded(item.slot, lambda: item.slot.talking.reset_encoder())
        elif item.control is MARK_END:
            self._guarded(item.slot, lambda: item.slot.talking.mark_end())
        return lambda: item

    def generate(self, item: Item) -> Item:
        """On the thread that owns MLX: one step for all."""
        if isinstance(item, Tick):
            with self._stats.generate.measure():
                made = self._batch.generate({slot.talking: codes for slot, codes in item.items.items()})
            return replace(item, items={slot: made[slot.talking] for slot in item.items})
        if isinstance(item, Errand):
            item.run()
            return item
        if item.control is Control.LEAVE:  # a broken one, too: its row must not be waited for
            item.slot.prefilling = None
            if item.slot.session:
                self._batch.leave(item.slot.session)
        else:
            self._guarded(item.slot, lambda: self._change(item.control, item.slot))
        return item

    def decode(self, item: Item) -> Callable[[], None]:
        """On the thread of the decoder: begin to turn codes into replies. Returns what gives them to listeners."""
        if isinstance(item, Tick):
            finish = self._stats.decode.begun(lambda: self._batch.decode(_of_whole(item)))

            def decoded() -> None:
                replies = finish()
                self._answered(item)
                for slot in item.items:
                    reply = self._answer(slot, replies.get(slot.talking))
                    if reply is not None:
                        slot.listener.write(reply)

            return decoded
        if isinstance(item, Errand):
            return lambda: None
        return lambda: self._change_at_end(item)

    def _change_at_end(self, item: Change) -> None:
        if item.control is RESET:
            self._guarded(item.slot, lambda: item.slot.talking.reset_decoder())
            item.slot.listener.began_anew()
        elif item.control is Control.LEAVE:
            self.close(item.slot)

    def close(self, slot: Slot) -> None:
        """Give back what a slot's session holds."""
        if slot.session is None:
            return
        if self._pool:
            self._pool.submit(slot.session.close)  # a process of the codec takes a moment to end
        else:
            slot.session.close()

    def _change(self, control: Control, slot: Slot) -> None:
        if control is Control.JOIN:
            slot.session = self._batch.join(slot.seed, slot.sampling, slot.conditions, slot.prompt, at_once=False)
            slot.prefilling = slot.session.resetting(self._positions)
            self._prefill(slot)
        elif slot.session is None:
            return
        elif control is Control.PREFILL:
            self._prefill(slot)
        elif control is TRIM and not slot.prefilling:  # else there is nothing yet to forget
            slot.session.trim()
        elif control is RESET:
            if slot.seed is None:
                slot.session.seed = new_seed()
            slot.prefilling = slot.session.resetting(self._positions)
            self._prefill(slot)

    @property
    def _positions(self) -> int:
        return PREFILL_SLICE if self._prefilled else PREFILL_POSITIONS

    def _prefill(self, slot: Slot) -> None:
        """Let a slot live through a slice of its prompt, or all of it."""
        while slot.prefilling:
            done = next(slot.prefilling, True) is True  # slices yield nothing
            if done:
                slot.prefilling = None
                if not slot.joined:
                    slot.joined = True
                    slot.listener.joined()
            if self._prefilled:
                self._prefilled(slot, done)
                return

    def _codes(self, slot: Slot, answer: np.ndarray | MoshiError | None) -> np.ndarray:
        codes = self._answer(slot, answer)
        # A row of the batch cannot pause; of a broken one nobody hears what it says.
        return np.zeros(self._batch.moshi.lm.config.input_codebooks, np.int32) if codes is None else codes

    def _answer(self, slot: Slot, answer: T | MoshiError | None) -> T | None:
        """What became of a slot's frame; None if nothing, now or before."""
        if slot.broken:
            return None
        if isinstance(answer, MoshiError):
            self._break(slot, answer)
            return None
        return answer

    def _guarded(self, slot: Slot, function: Callable[[], T]) -> T | None:
        """What concerns one conversation must not end the others: its first error breaks it."""
        if slot.broken:
            return None
        try:
            return function()
        except MoshiError as error:
            self._break(slot, error)
            return None

    def _break(self, slot: Slot, error: MoshiError) -> None:
        slot.broken = True
        slot.listener.failed(error)


def _of_whole(tick: Tick) -> dict[Session, Any]:
    """Return what a tick has for the sessions of those that are not broken."""
    return {slot.talking: given for slot, given in tick.items.items() if not slot.broken}
