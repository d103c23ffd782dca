"""Captions beside a conversation: the words of a transcription, only in the time that is left."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from moshi_mlx.frames import FRAME_SAMPLES, FRAME_SECONDS
from moshi_mlx.runtime.moshi import load
from moshi_mlx.tasks.captioner import LATE_FRAMES, MARGIN, TOGETHER, Captioner
from moshi_mlx.tasks.transcribe import SttTiming, Transcriber
from moshi_mlx.tasks.words import Pause, Word

TICK = 0.01  # seconds that encoding a frame and a pass take, by the clock of these tests
EVER = 1e9


class Clock:
    """One that goes on whenever it is asked."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += TICK
        return self.now


@pytest.fixture(scope="module")
def transcriber(stt_folder: Path) -> Transcriber:
    return Transcriber(load(stt_folder, codec="mlx"), SttTiming(delay=0.5))


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    return (0.1 * np.random.RandomState(4).standard_normal((80, FRAME_SAMPLES))).astype(np.float32)


def stepped(transcriber: Transcriber, frames: Iterable[np.ndarray]) -> list[Word | Pause]:
    """What is found when all frames are heard one by one, nothing behind them."""
    stream, words, found = transcriber.moshi.codec.stream(), transcriber.words(), []
    for heard in transcriber.decoder.decode([stream.encode(frame) for frame in frames]):
        found += words.push(heard.text_id, heard.vad)
    return found


def texts(events: list[Word | Pause]) -> list[tuple[str, float]]:
    """What is found and when; probabilities depend in their last digit on how many frames a pass has."""
    return [(one.text, one.start) if isinstance(one, Word) else ("", one.time) for one in events]


def times_off(events: list[Word | Pause], seconds: float) -> list[tuple[object, float]]:
    return [
        (one.text, one.start - seconds) if isinstance(one, Word) else ("", one.time - seconds) for one in events
    ]


def test_with_time_enough_the_words_are_those_of_a_transcription(
    transcriber: Transcriber, frames: np.ndarray
) -> None:
    found: list[Word | Pause] = []
    captions = Captioner(transcriber, found.append)
    for frame in frames[:40]:
        captions.hear(frame)
        captions.work(EVER)
    expected = stepped(transcriber, frames[:40])
    assert len(expected) > 5
    assert texts(found) == texts(expected)
    assert captions.dropped == 0
    assert 0 < captions.complete <= 40 * FRAME_SECONDS


def test_nothing_is_begun_that_would_end_too_late(transcriber: Transcriber, frames: np.ndarray) -> None:
    clock, found = Clock(), []
    captions = Captioner(transcriber, found.append, clock)
    for frame in frames[:10]:
        captions.hear(frame)
    for _ in range(3):
        captions.work(clock.now + TICK)  # asking the time takes as long as there is
    assert not found
    assert captions.complete == 0.0
    for _ in range(100):
        until = clock.now + 5 * TICK + MARGIN
        captions.work(until)
        assert clock.now <= until, "it worked for too long"
    assert texts(found) == texts(stepped(transcriber, frames[:10])), "a little at a time it gets there"


def test_what_comes_too_late_is_dropped_counted_and_leaves_times_right(
    transcriber: Transcriber, frames: np.ndarray
) -> None:
    found: list[Word | Pause] = []
    captions = Captioner(transcriber, found.append, ahead=TOGETHER)
    for frame in frames:
        captions.hear(frame)
    captions.work(EVER)
    missed = len(frames) - LATE_FRAMES
    assert captions.dropped == missed
    expected = stepped(transcriber, frames[missed:])
    words = [one for one in found if isinstance(one, Word)]
    assert [one.text for one in words] == [one.text for one in expected if isinstance(one, Word)]
    assert words[-1].start == pytest.approx(
        [one.start for one in expected if isinstance(one, Word)][-1] + missed * FRAME_SECONDS, abs=2e-3
    )


def test_a_reset_forgets_and_times_go_on(transcriber: Transcriber, frames: np.ndarray) -> None:
    found: list[Word | Pause] = []
    captions = Captioner(transcriber, found.append)
    for frame in frames[:30]:
        captions.hear(frame)
    captions.work(EVER)
    captions.hear(frames[70])  # waits, and is never heard
    captions.reset()
    found.clear()
    for frame in frames[:30]:
        captions.hear(frame)
        captions.work(EVER)
    assert times_off(found, 31 * FRAME_SECONDS) == [
        (text, pytest.approx(time)) for text, time in times_off(stepped(transcriber, frames[:30]), 0.0)
    ]


def test_the_silence_that_a_model_wants_first_is_heard_and_taken_off(
    transcriber: Transcriber, frames: np.ndarray
) -> None:
    wanting = Transcriber(transcriber.moshi, SttTiming(delay=0.5, prefix=1.0))  # 12.5 frames, so 13
    found: list[Word | Pause] = []
    captions = Captioner(wanting, found.append)
    before = np.zeros((13, FRAME_SAMPLES), np.float32)
    told = [
        (text, time - 13 * FRAME_SECONDS) for text, time in texts(stepped(transcriber, [*before, *frames[:30]]))
    ]
    assert texts(stepped(transcriber, frames[:30])) != told, "it changes what is found"
    for _ in range(2):
        for frame in frames[:30]:
            captions.hear(frame)
        captions.work(EVER)
        assert texts(found) == [(text, pytest.approx(max(0.0, time), abs=2e-3)) for text, time in told]
        found.clear()
        captions.start(found.append)


def test_who_comes_next_hears_nothing_of_the_one_before(transcriber: Transcriber, frames: np.ndarray) -> None:
    before: list[Word | Pause] = []
    after: list[Word | Pause] = []
    captions = Captioner(transcriber, before.append)
    for frame in frames:
        captions.hear(frame)
    assert captions.dropped
    while captions.waiting > 20:
        captions.advance(EVER)
    count = len(before)
    assert count
    captions.start(after.append)
    assert captions.dropped == captions.waiting == 0
    for frame in frames[:30]:
        captions.hear(frame)
        captions.work(EVER)
    assert len(before) == count
    assert texts(after) == texts(stepped(transcriber, frames[:30])), "from 0 on, as if nobody had been before"


def test_one_long_moment_does_not_end_captions_for_good(transcriber: Transcriber, frames: np.ndarray) -> None:
    class Stumbling(Clock):
        calls = 0  # until it jumps

        def __call__(self) -> float:
            self.calls -= 1
            self.now += 10.0 if self.calls == 0 else 0.0
            return super().__call__()

    clock, found = Stumbling(), []
    captions = Captioner(transcriber, found.append, clock)
    for frame in frames[:4]:
        captions.hear(frame)
        clock.calls = 2  # between the beginning and the end of a piece
        captions.work(clock.now + FRAME_SECONDS)
    for frame in frames[:40]:
        captions.hear(frame)
        captions.work(clock.now + FRAME_SECONDS)
    assert captions.waiting < 5, "it tries again"
    assert found
