"""A scheduler on a clock that the test turns: each gets what it would get alone, in time, whoever stalls."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from itertools import groupby
from operator import itemgetter

import numpy as np
import pytest

from moshi_mlx.errors import CodecError, MoshiError
from moshi_mlx.frames import is_silent
from moshi_mlx.runtime.flow import HeardFrame
from moshi_mlx.runtime.moshi import Moshi
from moshi_mlx.runtime.reply import Reply
from moshi_mlx.runtime.scheduler import PATIENCE, STALLED_AFTER, QueuedSlot, Scheduler
from moshi_mlx.runtime.stages import Change, Errand, Item, Tick
from moshi_mlx.sampling_config import GREEDY, SamplingConfig
from tests.runtime.test_session import same, talk

FRAME = 0.08


class Person:
    """A listener that keeps what it is told, with the time."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.replies: list[Reply] = []
        self.times: list[float] = []
        self.told: list[str | MoshiError] = []
        self.aligned = 0

    def joined(self) -> None:
        self.told.append("joined")

    def write(self, reply: Reply) -> None:
        self.replies.append(reply)
        self.times.append(self.room.now)

    def align(self) -> None:
        self.aligned += 1

    def began_anew(self) -> None:
        self.told.append(f"anew after {len(self.replies)}")

    def failed(self, error: MoshiError) -> None:
        self.told.append(error)


class Room:
    """A scheduler whose loop runs here, on a clock that stands still meanwhile."""

    def __init__(self, moshi: Moshi, size: int) -> None:
        self.now = 100.0
        self.scheduler = Scheduler(moshi.batch(size), clock=lambda: self.now)
        self.ticks = 0

    def enter(self, seed: int | None = 1, sampling: SamplingConfig = GREEDY) -> tuple[QueuedSlot, Person]:
        person = Person(self)
        slot = self.scheduler.join(person, seed, sampling)
        self.work()
        return slot, person

    def work(self) -> None:
        """Do all that is due now."""
        while (item := self.scheduler.next_item()) is not None:
            self.ticks += isinstance(item, Tick)
            self.do(item)

    def do(self, item: Item) -> None:
        """Let an item pass through all stages."""
        stages = self.scheduler.stages
        stages.decode(stages.generate(stages.encode(item)()))()

    def until(self, time: float) -> None:
        """Let time pass, and the scheduler do what falls due meanwhile."""
        while (due := self.scheduler.due()) is not None and due <= time:
            self.now = max(self.now, due)
            self.work()
        self.now = time
        self.work()

    def play(self, speech: Iterable[tuple[float, QueuedSlot, np.ndarray]]) -> None:
        """Frames at their times."""
        for time, said in groupby(sorted(speech, key=itemgetter(0)), key=itemgetter(0)):
            self.until(time)
            for _, slot, frame in said:
                slot.hear(HeardFrame(frame, self.now, is_silent(frame)))
            self.work()
        while any(len(slot.heard) for slot in self.scheduler.slots):
            due = self.scheduler.due()
            assert due is not None
            self.until(due)


def spoken(slot: QueuedSlot, frames: np.ndarray, start: float) -> list[tuple[float, QueuedSlot, np.ndarray]]:
    return [(start + FRAME * index, slot, frame) for index, frame in enumerate(frames)]


def alone(moshi: Moshi, frames: np.ndarray, seed: int, sampling: SamplingConfig = GREEDY) -> list[Reply]:
    with moshi.session(seed, sampling) as session:
        return talk(session, frames)


@pytest.mark.slow
@pytest.mark.parametrize("sampling", [GREEDY, SamplingConfig()], ids=["greedy", "sampled"])
def test_four_get_exactly_what_each_would_get_alone(
    tiny_moshi: Moshi, noise_frames: np.ndarray, sampling: SamplingConfig
) -> None:
    room = Room(tiny_moshi, 4)
    people = [room.enter(seed, sampling) for seed in range(4)]
    voices = [np.roll(noise_frames, 7 * person, axis=0)[:40] for person in range(4)]
    # Each by a clock of its own: another phase, and one of them comes a second later.
    starts = [room.now, room.now + 0.031, room.now + 0.047, room.now + 1.0 + 0.013]
    room.play(said for (slot, _), voice, start in zip(people, voices, starts, strict=True)
              for said in spoken(slot, voice, start))  # fmt: skip
    for seed, ((slot, person), voice) in enumerate(zip(people, voices, strict=True)):
        assert slot.heard.dropped == 0
        # Who stops earlier hears silence, while the others go on.
        heard = np.concatenate([voice, np.zeros((slot.silences, 1920), np.float32)])
        assert same(person.replies, alone(tiny_moshi, heard, seed, sampling))
    assert [slot.silences for slot, _ in people] == [13, 12, 12, 0]


@pytest.mark.slow
def test_each_gets_its_12_and_a_half_frames_a_second(tiny_moshi: Moshi, noise_frames: np.ndarray) -> None:
    room = Room(tiny_moshi, 4)
    people = [room.enter(seed) for seed in range(4)]
    begin = room.now
    speech = [said for index, (slot, _) in enumerate(people)
              for said in spoken(slot, np.tile(noise_frames, (2, 1))[:100], begin + 0.02 * index)]  # fmt: skip
    room.play(speech)
    for _, person in people:
        between = [time for time in person.times if begin + 1 <= time < begin + 7]
        assert len(between) == 75
        said = [time for time, slot, _ in speech if slot.listener is person][:99]
        assert max(heard - told for heard, told in zip(person.times, said, strict=False)) < FRAME


@pytest.mark.slow
def test_a_stalled_one_hears_silence_and_holds_nobody_up(tiny_moshi: Moshi, noise_frames: np.ndarray) -> None:
    room = Room(tiny_moshi, 2)
    (steady, listener), (stalling, victim) = room.enter(1), room.enter(2)
    start, voice = room.now, noise_frames[:40]
    speech = spoken(steady, voice, start) + spoken(stalling, voice[:10], start)
    room.play([*speech, *spoken(stalling, voice[20:40], start + 20 * FRAME)])
    delays = np.array(listener.times[:40]) - [start + FRAME * index for index in range(40)]
    assert delays[:10].max() < 1e-6
    assert delays[10] == pytest.approx(PATIENCE), "it is waited for once"
    assert delays[11:].max() < FRAME, "and not again"
    assert same(listener.replies, alone(tiny_moshi, voice, 1))
    heard = np.concatenate([voice[:10], np.zeros((10, 1920), np.float32), voice[20:40]])
    assert stalling.silences == 10
    assert same(victim.replies, alone(tiny_moshi, heard, 2))


def test_nobody_gets_audio_faster_than_it_is_played(tiny_moshi: Moshi, noise_frames: np.ndarray) -> None:
    room = Room(tiny_moshi, 1)
    slot, person = room.enter()
    start = room.now
    steady, late = spoken(slot, noise_frames[:10], start), start + 30 * FRAME
    room.play([*steady, *((late, slot, frame) for frame in noise_frames[:20])])
    played = np.arange(len(person.times)) * FRAME + person.times[0]
    assert (played - person.times).max() <= FRAME + 1e-6
    assert slot.heard.dropped >= 15, "what a stall held up and could only be answered too late was dropped"
    assert person.times[-1] - late <= 0.4


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [0.2, 0.32, 0.5, 1.0, 2.0])
def test_audio_in_chunks_is_heard_without_gaps(tiny_moshi: Moshi, noise_frames: np.ndarray, chunk: float) -> None:
    room = Room(tiny_moshi, 2)
    (steady, listener), (chunked, person) = room.enter(1), room.enter(2)
    voice = noise_frames[:60]
    arrival = [np.ceil(round((index + 1) * FRAME / chunk, 9)) * chunk for index in range(60)]
    start = room.now
    in_chunks = [(start + time, chunked, frame) for time, frame in zip(arrival, voice, strict=True)]
    room.play([*spoken(steady, voice, start + FRAME), *in_chunks])
    assert (chunked.heard.dropped, chunked.silences) == (0, 0)
    assert same(person.replies, alone(tiny_moshi, voice, 2))
    lags = np.array(person.times[:60]) - start - arrival
    assert lags.max() <= chunk + 0.4
    heard = np.concatenate([voice, np.zeros((steady.silences, 1920), np.float32)])
    assert same(listener.replies, alone(tiny_moshi, heard, 1))
    delays = np.array(listener.times[:60]) - (start + FRAME + FRAME * np.arange(60))
    assert delays.max() <= PATIENCE + 1e-6


def test_who_stops_sending_hears_silence_alone_as_in_company(tiny_moshi: Moshi, noise_frames: np.ndarray) -> None:
    room = Room(tiny_moshi, 1)
    slot, person = room.enter(1)
    start = room.now
    room.play(spoken(slot, noise_frames[:10], start))
    room.until(start + 9 * FRAME + STALLED_AFTER + 10 * FRAME)
    assert slot.silences == 11
    heard = np.concatenate([noise_frames[:10], np.zeros((11, 1920), np.float32)])
    assert same(person.replies, alone(tiny_moshi, heard, 1))


def test_patience_has_to_be_earned_again(tiny_moshi: Moshi, noise_frames: np.ndarray) -> None:
    room = Room(tiny_moshi, 2)
    (steady, listener), (tardy, _) = room.enter(1), room.enter(2)
    start, voice = room.now, np.tile(noise_frames, (2, 1))[:60]
    every_other = spoken(tardy, voice, start)[::2]
    room.play([*spoken(steady, voice, start), *every_other])
    delays = np.array(listener.times[:60]) - (start + FRAME * np.arange(60))
    assert (delays > 1e-6).sum() <= 2, "it is waited for once, not every other time"


def test_delay_that_a_network_left_goes_when_there_is_silence(tiny_moshi: Moshi, noise_frames: np.ndarray) -> None:
    room = Room(tiny_moshi, 1)
    slot, _ = room.enter()
    begin, quiet = room.now, np.zeros((20, 1920), np.float32)
    burst = [(begin + 0.5, slot, frame) for frame in noise_frames[:4]]
    room.play([*spoken(slot, noise_frames[4:5], begin), *burst, *spoken(slot, quiet, begin + 0.5 + FRAME)])
    assert slot.lag < FRAME
    assert slot.heard.dropped >= 1


def test_a_reset_begins_anew_for_one_only(tiny_moshi: Moshi, noise_frames: np.ndarray) -> None:
    room = Room(tiny_moshi, 2)
    (staying, listener), (resetting, person) = room.enter(1), room.enter(2)
    start, voice = room.now, noise_frames[:30]
    room.play([*spoken(staying, voice[:10], start), *spoken(resetting, voice[:10], start)])
    silences = staying.silences
    before = len(person.replies)
    resetting.reset()
    resetting.reset()
    room.work()
    start = room.now
    room.play([*spoken(staying, voice[10:], start), *spoken(resetting, voice[10:], start)])
    assert person.told == ["joined", f"anew after {before}"]
    assert same(person.replies[before:], alone(tiny_moshi, voice[10:], 2))
    heard = np.concatenate([voice[:10], np.zeros((silences, 1920), np.float32), voice[10:]])
    assert same(listener.replies, alone(tiny_moshi, heard, 1))


@pytest.mark.parametrize("hostile", [1, 3])
def test_resets_without_end_hold_nobody_up(tiny_moshi: Moshi, noise_frames: np.ndarray, hostile: int) -> None:
    """Each reset takes 25 ms here, and is asked for anew as soon as it is done."""
    room = Room(tiny_moshi, 4)
    slots = [room.enter()[0] for _ in range(1 + hostile)]
    answered = 0
    came = room.now
    for index in range(60_000):
        if came <= room.now:
            slots[0].hear(HeardFrame(noise_frames[0, index % 20], room.now, False))
            came += FRAME
        for slot in slots[1:]:
            slot.reset()
            slot.hear(HeardFrame(noise_frames[0, 0], room.now, False))
        item = room.scheduler.next_item()
        room.now += 0.001 if item is None else 0.005 if isinstance(item, Tick) else 0.025
        if isinstance(item, Tick):
            answered += slots[0] in item.answered
            assert slots[1] not in item.items, "what it sent before the reset belongs to no conversation"
            slots[0].heard.answered()
        if came > 130.0:
            break
    assert answered >= 0.99 * 30 / FRAME
    assert slots[0].heard.dropped == 0
    assert slots[0].silences <= 2


def test_what_follows_a_reset_is_heard_after_it(tiny_moshi: Moshi, noise_frames: np.ndarray) -> None:
    """Also where a tick that is due goes first."""
    room = Room(tiny_moshi, 2)
    (one, person), (other, _) = room.enter(), room.enter()
    for _ in range(3):
        for slot in (one, other):
            slot.hear(HeardFrame(noise_frames[0, 0], room.now, False))
        room.until(room.now + FRAME)
    said = len(person.replies)
    other.trim()
    one.reset()
    for slot in (one, other):
        slot.hear(HeardFrame(noise_frames[0, 1], room.now, False))
    items = [room.scheduler.next_item() for _ in range(3)]
    assert [type(item) for item in items] == [Change, Tick, Change]
    assert isinstance(items[1], Tick)
    assert one not in items[1].answered
    assert is_silent(items[1].items[one]), "its row cannot pause"
    assert len(one.heard) == 1
    assert len(person.replies) == said


def test_without_a_seed_every_conversation_is_another(tiny_moshi: Moshi, noise_frames: np.ndarray) -> None:
    room = Room(tiny_moshi, 1)
    slot, person = room.enter(None, SamplingConfig())
    room.play(spoken(slot, noise_frames[:20], room.now))
    slot.reset()
    room.work()
    room.play(spoken(slot, noise_frames[:20], room.now))
    assert len(person.replies) == 40
    assert not same(person.replies[:20], person.replies[20:])


def test_who_leaves_makes_room_and_hears_no_more(tiny_moshi: Moshi, noise_frames: np.ndarray) -> None:
    room = Room(tiny_moshi, 1)
    first, gone = room.enter(1)
    room.play(spoken(first, noise_frames[:5], room.now))
    first.leave()
    room.work()
    first.hear(HeardFrame(noise_frames[5], room.now, False))
    second, person = room.enter(2)
    room.play(spoken(second, noise_frames[:12], room.now))
    assert len(gone.replies) == 5
    assert same(person.replies, alone(tiny_moshi, noise_frames[:12], 2)), "nothing is left of the one before"


@pytest.mark.parametrize("what", ["reset", "leave"])
def test_several_may_begin_anew_or_leave_when_a_tick_is_due(
    tiny_moshi: Moshi, noise_frames: np.ndarray, what: str
) -> None:
    room = Room(tiny_moshi, 3)
    (staying, listener), *others = (room.enter(seed) for seed in range(3))
    start = room.now
    room.play([said for slot, _ in ((staying, None), *others) for said in spoken(slot, noise_frames[:5], start)])
    room.until(start + 5 * FRAME)
    staying.hear(HeardFrame(noise_frames[5], room.now, False))
    for slot, _ in others:
        getattr(slot, what)()
    room.work()
    assert len(listener.replies) == 6
    assert same(listener.replies, alone(tiny_moshi, noise_frames[:6], 0))


def test_a_newcomer_is_asked_to_speak_in_time_with_the_others(tiny_moshi: Moshi, noise_frames: np.ndarray) -> None:
    room = Room(tiny_moshi, 2)
    (first, person), (second, newcomer) = room.enter(1), room.enter(2)
    start = room.now
    room.play([*spoken(first, noise_frames[:9], start), *spoken(second, noise_frames[:3], start + 0.35)])
    assert (person.aligned, newcomer.aligned) == (0, 1)


def test_who_leaves_before_it_was_let_in_is_no_work(tiny_moshi: Moshi) -> None:
    room = Room(tiny_moshi, 1)
    slot = room.scheduler.join(Person(room), 1, GREEDY)
    slot.leave()
    assert room.scheduler.next_item() is None
    slot.leave()
    room.work()
    _, person = room.enter()
    assert person.told == ["joined"]


def test_one_too_many_is_told_so(tiny_moshi: Moshi) -> None:
    room = Room(tiny_moshi, 1)
    room.enter()
    slot, person = room.enter()
    assert len(person.told) == 1
    assert "all 1 places" in str(person.told[0])
    slot.reset()
    slot.leave()
    room.work()


def test_a_broken_codec_ends_one_conversation_only(
    tiny_moshi: Moshi, noise_frames: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = Room(tiny_moshi, 2)
    (whole, listener), (broken, victim) = room.enter(1), room.enter(2)
    start, voice = room.now, noise_frames[:20]
    room.play([*spoken(whole, voice[:5], start), *spoken(broken, voice[:5], start)])
    error = CodecError("its process died")

    def fail(frame: np.ndarray) -> np.ndarray:
        raise error

    assert broken.session
    monkeypatch.setattr(broken.session, "hear", fail)
    start = room.now
    room.play([*spoken(whole, voice[5:], start), *spoken(broken, voice[5:], start)])
    assert victim.told == ["joined", error]
    assert len(victim.replies) == 5
    assert same(listener.replies, alone(tiny_moshi, voice, 1))


def test_a_broken_one_that_leaves_frees_its_row_before_its_codec_has_ended(
    tiny_moshi: Moshi, noise_frames: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = Room(tiny_moshi, 2)
    (whole, listener), (broken, _) = room.enter(1), room.enter(2)
    voice = noise_frames[:20]
    room.play([*spoken(whole, voice[:5], room.now), *spoken(broken, voice[:5], room.now)])
    broken.broken = True
    monkeypatch.setattr(broken.session, "close", lambda: None)  # a process of the codec takes a moment to end
    broken.leave()
    room.work()
    room.play(spoken(whole, voice[5:], room.now))
    assert same(listener.replies, alone(tiny_moshi, voice, 1))


@pytest.mark.parametrize("codec", ["mlx", "rust"])
def test_it_runs_on_threads_until_it_is_closed(
    codec: str, noise_frames: np.ndarray, request: pytest.FixtureRequest
) -> None:
    moshi: Moshi = request.getfixturevalue("tiny_moshi" if codec == "mlx" else "rust_moshi")
    errands = Chores(20)
    scheduler = Scheduler(moshi.batch(2), errands=errands)
    thread = threading.Thread(target=scheduler.run)
    thread.start()
    assert errands.done.wait(60), "nobody has come yet"
    people = [Waiting(6) for _ in range(2)]
    slots = [scheduler.join(person, 1, GREEDY) for person in people]
    for slot, person in zip(slots, people, strict=True):
        assert person.in_place.wait(60)
        slot.prepare()
    for frame in np.tile(noise_frames, (10, 1)):  # as they are spoken, some too fast for a busy machine
        for slot in slots:
            slot.hear(HeardFrame(frame, scheduler.clock(), False))
        if all(person.enough.wait(FRAME / 2) for person in people):
            break
    assert all(person.enough.is_set() for person in people)
    scheduler.close()
    thread.join(60)
    assert not thread.is_alive()
    assert scheduler.stats.frames >= 6


class Chores:
    """So many slices of work that are nobody's frame."""

    def __init__(self, left: int) -> None:
        self.left, self.done = left, threading.Event()

    @property
    def waiting(self) -> bool:
        return self.left > 0

    def advance(self, until: float) -> bool:
        self.left -= 1
        if not self.left:
            self.done.set()
        return True


def test_errands_are_done_one_at_a_time_and_only_while_no_tick_is_due(
    tiny_moshi: Moshi, noise_frames: np.ndarray
) -> None:
    room, errands = Room(tiny_moshi, 1), Chores(5)
    room.scheduler = scheduler = Scheduler(tiny_moshi.batch(1), clock=lambda: room.now, errands=errands)
    first = scheduler.next_item()
    assert isinstance(first, Errand)
    assert scheduler.next_item() is None, "one is on its way"
    slot = scheduler.join(Person(room), 1, GREEDY)
    change = scheduler.next_item()
    assert isinstance(change, Change), "a newcomer waits for one slice at most"
    for item in (first, change):
        room.do(item)
    assert errands.left == 4
    room.work()  # somebody is there, and has not begun to talk
    assert errands.left == 0
    errands.left = 5
    slot.hear(HeardFrame(noise_frames[0], room.now, False))
    room.work()
    assert (room.ticks, errands.left) == (1, 5), "the next tick is due after 80 ms, until then the time is spare"
    slot.leave()
    room.work()
    assert errands.left == 0


class Waiting(Person):
    """A listener that can be waited for."""

    def __init__(self, wanted: int) -> None:
        self.wanted, self.count, self.aligned = wanted, 0, 0
        self.in_place, self.enough = threading.Event(), threading.Event()

    def joined(self) -> None:
        self.in_place.set()

    def write(self, reply: Reply) -> None:
        self.count += 1
        if self.count == self.wanted:
            self.enough.set()


def test_time_is_spare_until_the_next_tick_and_no_longer(tiny_moshi: Moshi, noise_frames: np.ndarray) -> None:
    room = Room(tiny_moshi, 2)
    assert room.scheduler.spare_until(room.now + FRAME) < room.now, "before the first tick there is none"
    one, _ = room.enter()
    two, _ = room.enter()
    room.play([*spoken(one, noise_frames[:3], 100.0), *spoken(two, noise_frames[:3], 100.0)])
    last = room.now
    assert last == pytest.approx(100.16)
    assert room.scheduler.spare_until(last + 1.0) == pytest.approx(last + FRAME), "when frames are expected"
    room.now = last + 0.03
    assert room.scheduler.spare_until(room.now + FRAME) == pytest.approx(last + FRAME), "whatever else came since"
    assert room.scheduler.spare_until(last + 0.05) == last + 0.05
    for slot in one, two:
        for frame in noise_frames[3:6]:  # a network brings them all at once: the first is due now
            slot.hear(HeardFrame(frame, room.now, is_silent(frame)))
    assert room.scheduler.spare_until(room.now + FRAME) <= room.now
