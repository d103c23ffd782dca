"""Two of four are hostile: the others get the frames, the times and the tokens that they get beside calm ones.

On a clock of the test's own, on which a tick takes 50 ms and whatever else is done takes its time, too. What a
real server gives is measured by benchmarks/storm.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from statistics import median
from typing import NamedTuple

import numpy as np
import pytest

from moshi_mlx.checkpoint.random_checkpoint import TINY_PERSONA, write_random_checkpoint
from moshi_mlx.frames import silence
from moshi_mlx.runtime.flow import HeardFrame
from moshi_mlx.runtime.moshi import Moshi, load
from moshi_mlx.runtime.prompt import Prompt
from moshi_mlx.runtime.reply import Reply
from moshi_mlx.runtime.scheduler import QueuedSlot
from moshi_mlx.runtime.stages import Change, Control, Tick
from moshi_mlx.runtime.wordless import NoWords
from moshi_mlx.sampling_config import GREEDY
from tests.numbers_codec import Numbers
from tests.runtime.test_prompt import prompt
from tests.runtime.test_scheduler import FRAME, Person, Room, alone
from tests.runtime.test_session import same

SECONDS = 4.0
TICK, SLICE, CHANGE, MOMENT = 0.05, 0.03, 0.002, 0.005  # seconds of a tick, of a prompt's slice, of another change


@pytest.fixture(scope="module")
def moshi(tmp_path_factory: pytest.TempPathFactory) -> Moshi:
    folder = write_random_checkpoint(tmp_path_factory.mktemp("persona") / "tiny", TINY_PERSONA)
    return Moshi(load(folder, codec="mlx").lm, Numbers(TINY_PERSONA["card"]), NoWords())


class House(Room):
    """A room of four in which everything takes its time."""

    def __init__(self, moshi: Moshi) -> None:
        super().__init__(moshi, 4)

    def ask(self, known: Prompt | None = None) -> tuple[QueuedSlot, Person]:
        """Let somebody come who is not in yet."""
        person = Person(self)
        return self.scheduler.join(person, 1, GREEDY, None, known), person

    def live(self, people: list[Iterator[None]], end: float) -> None:
        """Let everybody act whenever they can, until then."""
        stages = self.scheduler.stages
        while self.now < end:
            for person in people:
                next(person)
            item = self.scheduler.next_item()
            if item is None:
                self.now += MOMENT
                continue
            slices = isinstance(item, Change) and item.control is not Control.LEAVE and item.slot.prompt
            self.now += TICK if isinstance(item, Tick) else SLICE if slices else CHANGE
            stages.decode(stages.generate(stages.encode(item)()))()


class Got(NamedTuple):
    """What an honest one has."""

    slot: QueuedSlot
    replies: list[Reply]
    frames: int
    gap: float


def wait(room: House, seconds: float) -> Iterator[None]:
    until = room.now + seconds
    while room.now < until:
        yield


def come(room: House, known: Prompt | None = None) -> Iterator[None]:
    """Until there is a place. `yield from` gives the slot and its listener."""
    while True:
        slot, person = room.ask(known)
        while not person.told:
            yield
        if person.told == ["joined"]:
            return slot, person  # pyright: ignore[reportReturnType]
        slot.leave()
        yield from wait(room, FRAME)


def say(room: House, slot: QueuedSlot, frame: np.ndarray | None = None) -> None:
    slot.hear(HeardFrame(silence() if frame is None else frame, room.now, frame is None))


def speak(room: House, slot: QueuedSlot, frames: np.ndarray, begin: float) -> Iterator[None]:
    """As the honest do: every frame when it is spoken."""
    for index in range(1_000_000):
        while room.now < begin + index * FRAME:
            yield
        slot.hear(HeardFrame(frames[index % len(frames)], begin + index * FRAME, False))


def behave(room: House, number: int) -> Iterator[None]:
    slot, _ = yield from come(room)
    yield from speak(room, slot, np.zeros((1, 1920), np.float32), room.now)


def stall_in_turn(room: House, number: int) -> Iterator[None]:
    """A frame on every other reply, the two of them in turn."""
    slot, person = yield from come(room)
    for _ in range(3):
        say(room, slot)
        yield from wait(room, FRAME)
    heard = len(person.replies)
    while True:
        if len(person.replies) > heard:
            heard += 1
            if (heard + number) % 2:
                say(room, slot)
        yield


def say_no_more(room: House, number: int) -> Iterator[None]:
    slot, _ = yield from come(room)
    say(room, slot)
    while True:
        yield


def come_again(room: House, number: int) -> Iterator[None]:
    """Newcomers are trusted to speak on; these do not, and come again."""
    while True:
        slot, _ = yield from come(room)
        say(room, slot)
        yield from wait(room, 1.5 * FRAME)
        slot.leave()


def come_and_go(room: House, number: int) -> Iterator[None]:
    while True:
        slot, _ = room.ask()
        yield
        slot.leave()
        yield


def begin_anew(room: House, number: int) -> Iterator[None]:
    slot, _ = yield from come(room)
    while True:
        slot.reset()
        say(room, slot)
        yield


def begin_anew_with_a_prompt(room: House, number: int) -> Iterator[None]:
    slot, _ = yield from come(room, prompt(60))
    while True:
        slot.reset()
        say(room, slot)
        yield from wait(room, FRAME)


def come_with_a_prompt(room: House, number: int) -> Iterator[None]:
    while True:
        slot, _ = yield from come(room, prompt(60))
        slot.leave()


def flood(room: House, number: int) -> Iterator[None]:
    slot, _ = yield from come(room)
    while True:
        for _ in range(20):
            say(room, slot)
        yield


def stutter(room: House, number: int) -> Iterator[None]:
    chance = np.random.RandomState(number)
    slot, _ = yield from come(room)
    while True:
        say(room, slot)
        yield from wait(room, FRAME * chance.choice([0.1, 1.9]))


HOSTILE = (
    *(stall_in_turn, say_no_more, come_again, come_and_go),
    *(begin_anew, begin_anew_with_a_prompt, come_with_a_prompt, flood, stutter),
)


def two_honest(moshi: Moshi, others: Callable[[House, int], Iterator[None]], frames: np.ndarray) -> list[Got]:
    """What two get who speak all the time, while two others do this."""
    room = House(moshi)
    honest = [room.enter(seed) for seed in (5, 6)]
    start = room.now
    voices = [speak(room, slot, frames, start + 0.01 * at) for at, (slot, _) in enumerate(honest)]
    room.live([*voices, *(others(room, number) for number in range(2))], start + SECONDS)
    gaps = [median(later - sooner for sooner, later in pairwise(person.times)) for _, person in honest]
    return [Got(slot, person.replies, len(person.times), gap)
            for (slot, person), gap in zip(honest, gaps, strict=True)]  # fmt: skip


@pytest.fixture(scope="module")
def calm(moshi: Moshi, noise_frames: np.ndarray) -> list[Got]:
    return two_honest(moshi, behave, noise_frames)


@pytest.mark.slow
@pytest.mark.parametrize("others", HOSTILE, ids=lambda others: others.__name__)
def test_the_honest_get_what_they_get_beside_calm_ones(
    moshi: Moshi, noise_frames: np.ndarray, calm: list[Got], others: Callable[[House, int], Iterator[None]]
) -> None:
    for seed, got, control in zip((5, 6), two_honest(moshi, others, noise_frames), calm, strict=True):
        assert got.frames >= 0.97 * control.frames
        assert got.gap <= 1.05 * control.gap
        assert (got.slot.heard.dropped, got.slot.silences) == (0, 0)
        assert same(got.replies, alone(moshi, noise_frames[: len(got.replies)], seed))
