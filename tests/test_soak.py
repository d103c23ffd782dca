"""Two minutes of conversation, and everything that could grow is as it was after the first seconds.

Memory does not know what time it is: the frames come as fast as they are taken. (Hours, and in real time:
benchmarks/soak.py.)
"""

import gc
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.checkpoint.random_checkpoint import TINY
from moshi_mlx.codec.base import StreamsApart
from moshi_mlx.conversation.conversation import Conversation
from moshi_mlx.conversation.observer import Observer, State
from moshi_mlx.conversation.recorder import Recorder
from moshi_mlx.conversation.trimming import ContextTrimmer
from moshi_mlx.frames import FRAME_RATE
from moshi_mlx.models.config import LmConfig
from moshi_mlx.models.lm import Lm
from moshi_mlx.runtime.moshi import Moshi
from moshi_mlx.runtime.reply import Reply
from tests.runtime.test_hostile import House, begin_anew, come_again, come_and_go, speak
from tests.runtime.test_scheduler import Person

pytestmark = pytest.mark.slow

FRAMES = round(120 * FRAME_RATE)
CONTEXT = 64
SMALL = {**TINY, "context": CONTEXT, "dim": 32, "num_layers": 1, "depformer_num_layers": 1}
LOOKS = (300, 900, FRAMES - 1)


class Stream(SimpleNamespace):
    __hash__ = object.__hash__  # streams are keys  # pyright: ignore[reportAssignmentType]


class Speaking:
    """A codec in which every frame is speech; what codecs hold is tested with them."""

    name, threaded, codebooks = "numbers", False, 8

    def streams(self) -> StreamsApart:
        return StreamsApart(self)

    def stream(self) -> Any:
        rng = np.random.RandomState(1)
        return Stream(
            encode=lambda frame: rng.randint(0, TINY["card"], 8).astype(np.int32),
            decode=lambda codes: np.resize(codes.astype(np.float32) / TINY["card"], 1920),
            reset_encoder=lambda: None,
            reset_decoder=lambda: None,
            close=lambda: None,
        )


class Audio:
    """Speech and pauses in turn, every minute a new conversation, and a look at what is held."""

    muted = False

    def __init__(self) -> None:
        self.looks: list[tuple[int, int]] = []
        self.replies = 0
        self.at: dict[int, Any] = {}

    def __iter__(self) -> Iterator[np.ndarray]:
        rng = np.random.default_rng(0)
        for number in range(FRAMES):
            if number in LOOKS:
                gc.collect()
                self.looks.append((mx.get_active_memory(), sys.getallocatedblocks()))
            if number in self.at:
                self.at[number]()
            loud = 0.1 if number // 25 % 2 else 0.0
            yield (loud * rng.standard_normal(1920)).astype(np.float32)

    def write(self, reply: Reply) -> None:
        self.replies += 1

    def close(self) -> None: ...


class Told(Observer):
    """Counts the states of a conversation."""

    def __init__(self) -> None:
        self.states: Counter[State] = Counter()

    def state(self, name: State) -> None:
        self.states[name] += 1


@pytest.fixture
def small(tiny_moshi: Moshi) -> Moshi:
    lm = Lm(LmConfig.from_dict(SMALL))
    mx.eval(lm.parameters())
    return Moshi(lm, Speaking(), tiny_moshi.tokenizer)


def test_after_two_minutes_nothing_is_held_that_was_not_after_half_a_minute(small: Moshi, tmp_path: Path) -> None:
    cache = mx.set_cache_limit(0)  # a reused buffer may be larger than asked for, which would show in bytes
    try:
        audio, told = Audio(), Told()
        small.warm_up()
        with small.session(seed=1) as session:
            trimmer = ContextTrimmer(session, kept=1.0)
            recorder = Recorder(tmp_path / "talk", {})
            conversation = Conversation(session, audio, [], told, recorder, trimmer)
            audio.at = dict.fromkeys(range(100, FRAMES, 100), conversation.trim) | {750: conversation.reset}
            stats = conversation.run()
            recorder.close()
    finally:
        mx.set_cache_limit(cache)
    assert (stats.frames, audio.replies) == (FRAMES, FRAMES)
    assert told.states == Counter(refresh=len(range(100, FRAMES, 100)), reset=1)
    early, *later = audio.looks
    # Less than one number a frame: what MLX holds moves by a little, as it reuses buffers of other sizes.
    assert all(abs(held - early[0]) < 4 * 600 for held, _ in later), audio.looks
    # Three times a frame are kept for percentiles, up to 4096 frames of them: three blocks of Python's memory.
    for (_, before), (_, after) in pairwise(audio.looks):
        assert after - before < 4 * 600, audio.looks
    assert len(conversation._unanswered) == 0


def test_those_who_come_and_go_leave_nothing_behind(small: Moshi, noise_frames: np.ndarray) -> None:
    """One stays; others come again, come and go at once, and begin anew, for half a minute of frames."""
    cache = mx.set_cache_limit(0)
    try:
        room = House(small)
        slot, person = room.enter()
        start = room.now
        people = [
            speak(room, slot, noise_frames, start),
            *(others(room, 0) for others in (come_again, come_and_go, begin_anew)),
        ]
        looks = []
        for end in (6.0, 18.0, 30.0):
            room.live(people, start + end)
            for each in (person, *(slot.listener for slot in room.scheduler.slots)):
                assert isinstance(each, Person)
                each.replies.clear()
                each.times.clear()
                each.told.clear()
            gc.collect()
            looks.append((mx.get_active_memory(), sys.getallocatedblocks(), len(room.scheduler.slots)))
    finally:
        mx.set_cache_limit(cache)
    assert slot.heard.dropped + slot.silences == 0
    early, *later = looks
    assert all(abs(held - early[0]) < 4 * 150 for held, _, _ in later), looks
    assert all(slots <= 4 for _, _, slots in looks), looks
    for (_, before, _), (_, after, _) in pairwise(looks):
        assert after - before < 5 * 150, looks
