"""A prompt is lived through in slices between others' frames: no tokens change, and nobody waits for all of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from operator import itemgetter

import numpy as np
import pytest

from moshi_mlx.checkpoint.random_checkpoint import TINY, TINY_PERSONA, write_random_checkpoint
from moshi_mlx.frames import is_silent
from moshi_mlx.runtime.batch import PATIENCE
from moshi_mlx.runtime.flow import HeardFrame
from moshi_mlx.runtime.moshi import Moshi, load
from moshi_mlx.runtime.prompt import Prompt
from moshi_mlx.runtime.reply import Reply
from moshi_mlx.runtime.scheduler import QueuedSlot
from moshi_mlx.runtime.stages import PREFILL_SLICE, Change, Item
from moshi_mlx.sampling_config import GREEDY
from tests.runtime.test_prompt import prompt
from tests.runtime.test_scheduler import FRAME, Person, Room, alone, spoken
from tests.runtime.test_session import same, talk, tokens_of

SLICES = 4
KNOWN = prompt(PREFILL_SLICE * SLICES - 3)


@pytest.fixture(scope="module")
def persona(tmp_path_factory: pytest.TempPathFactory) -> Moshi:
    return load(write_random_checkpoint(tmp_path_factory.mktemp("persona") / "tiny", TINY_PERSONA), codec="mlx")


class Watched(Room):
    """A room that notes what its stages have done; a slice of a prompt takes most of a frame there."""

    def __init__(self, moshi: Moshi, size: int) -> None:
        super().__init__(moshi, size)
        self.done: list[str] = []
        generate, self.slice = self.scheduler.stages.generate, 0.06

        def noted(item: Item) -> Item:
            name = item.control.name.lower() if isinstance(item, Change) else "tick"
            if isinstance(item, Change) and name in ("join", "reset", "prefill") and item.slot.prompt:
                self.now += self.slice
            self.done.append(name)
            return generate(item)

        self.scheduler.stages.generate = noted

    def live(self, speech: Iterable[tuple[float, QueuedSlot, np.ndarray]]) -> None:
        """As `play`, but frames also come while something is done."""
        coming = deque(sorted(speech, key=itemgetter(0)))
        stages = self.scheduler.stages
        while True:
            while coming and coming[0][0] <= self.now:
                time, slot, frame = coming.popleft()
                slot.hear(HeardFrame(frame, time, is_silent(frame)))
            item = self.scheduler.next_item()
            if item is not None:
                stages.decode(stages.generate(stages.encode(item)()))()
                continue
            if not coming and not any(len(slot.heard) for slot in self.scheduler.slots):
                return
            times = [due for due in (self.scheduler.due(), coming[0][0] if coming else None) if due is not None]
            self.now = max(self.now, min(times))

    def ask(self, known: Prompt, seed: int = 1) -> tuple[QueuedSlot, Person]:
        """Let somebody join whose prompt is not lived through yet."""
        person = Person(self)
        return self.scheduler.join(person, seed, GREEDY, None, known), person


def with_prompt(moshi: Moshi, frames: np.ndarray) -> list[Reply]:
    with moshi.session(1, GREEDY, prompt=KNOWN) as session:
        return talk(session, frames)


def test_rows_move_between_the_slices(persona: Moshi) -> None:
    codes, heard = np.zeros(8, np.int32), np.random.RandomState(4).randint(0, TINY["card"], (20, 8))
    alone = persona.session(1, GREEDY, prompt=KNOWN)
    expected = [tokens_of(alone.generate(each)) for each in heard]
    batch = persona.batch(4)
    steady, second, third = (batch.join(seed, GREEDY, prompt=prompt(4)) for seed in range(3))
    newcomer = batch.join(1, GREEDY, prompt=KNOWN, at_once=False)
    slices = newcomer.resetting(PREFILL_SLICE)
    next(slices)
    second.close()
    third.close()
    for _ in range(PATIENCE + 1):
        batch.generate({steady: codes})
    assert newcomer.row == 1, "it was in the last of four rows"
    assert sum(1 for _ in slices) == SLICES - 1
    made = [batch.generate({newcomer: each, steady: codes})[newcomer] for each in heard]
    assert [tokens_of(each) for each in made] == expected


def test_others_get_their_frames_between_the_slices(persona: Moshi, noise_frames: np.ndarray) -> None:
    room, frames = Watched(persona, 2), noise_frames[:30]
    steady, listener = room.enter(2)
    start = room.now
    room.live(spoken(steady, frames[:10], start))
    room.done.clear()
    slot, person = room.ask(KNOWN)
    room.live(spoken(steady, frames[10:], start + 10 * FRAME))
    prepared = len(room.done) - room.done[::-1].index("prefill")
    assert [what for what in room.done[:prepared] if what != "tick"] == ["join", *["prefill"] * SLICES]
    assert room.done[:prepared].count("tick") >= SLICES - 1
    late = np.array(listener.times) - (start + FRAME * np.arange(30))
    assert late.max() <= room.slice + 1e-6, "one slice, not all of them"
    assert (steady.silences, steady.heard.dropped) == (0, 0)
    assert same(listener.replies, alone(persona, frames, 2))
    assert person.told == ["joined"]
    room.live(spoken(slot, frames, room.now))
    assert same(person.replies, with_prompt(persona, frames))


def test_a_reset_lives_through_the_prompt_in_slices_too(persona: Moshi, noise_frames: np.ndarray) -> None:
    room, frames = Watched(persona, 2), noise_frames[:30]
    (steady, listener), (slot, person) = room.enter(2), room.ask(KNOWN)
    room.work()
    start = room.now
    room.live([*spoken(steady, frames[:5], start), *spoken(slot, frames[:5], start)])
    room.done.clear()
    slot.reset()
    slot.trim()  # what is not there any more
    room.live([*spoken(steady, frames[5:], start + 5 * FRAME), *spoken(slot, frames, start + 11 * FRAME)])
    prepared = len(room.done) - room.done[::-1].index("prefill")
    assert [what for what in room.done[:prepared] if what != "tick"] == ["reset", "trim", *["prefill"] * SLICES]
    assert room.done[:prepared].count("tick") >= SLICES - 1
    assert person.told == ["joined", "anew after 5"]
    assert same(person.replies[5:], with_prompt(persona, frames))
    heard = np.concatenate([frames, np.zeros((steady.silences, 1920), np.float32)])
    assert same(listener.replies, alone(persona, heard, 2))


@pytest.mark.parametrize("leaves_after", [1, 2])
def test_who_leaves_before_its_prompt_is_lived_through_leaves_nothing(
    persona: Moshi, noise_frames: np.ndarray, leaves_after: int
) -> None:
    room = Watched(persona, 1)
    slot, person = room.ask(KNOWN)
    stages = room.scheduler.stages
    for _ in range(leaves_after):
        item = room.scheduler.next_item()
        assert isinstance(item, Change)
        stages.decode(stages.generate(stages.encode(item)()))()
    slot.leave()
    room.work()
    assert not person.told
    second, other = room.enter(3)
    room.play(spoken(second, noise_frames[:12], room.now))
    assert same(other.replies, alone(persona, noise_frames[:12], 3))
