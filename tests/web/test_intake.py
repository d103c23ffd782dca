"""From samples of any count to frames, and what a clock or a network may do."""

import numpy as np
import pytest

from moshi_mlx.errors import ProtocolError
from moshi_mlx.runtime.flow import FrameQueue, PacedGovernor
from moshi_mlx.web.intake import Intake


def test_blocks_of_any_length_become_the_same_frames() -> None:
    pcm = np.random.RandomState(0).uniform(-1, 1, 20_000).astype(np.float32)
    random = np.random.RandomState(1)
    intake, frames, start = Intake(), [], 0
    while start < len(pcm):
        length = random.randint(0, 3000)
        frames += list(intake.add(pcm[start : start + length], now=start / 24_000))
        start += length
    assert len(frames) == 10
    np.testing.assert_array_equal(np.concatenate([frame.pcm for frame in frames]), pcm[:19_200])
    assert all(frame.pcm.dtype == np.float32 for frame in frames)


def test_what_is_no_sound_is_made_one() -> None:
    pcm = np.zeros(1920, np.float32)
    pcm[:4] = np.nan, np.inf, -np.inf, 7.0
    (frame,) = Intake().add(pcm, now=0.0)
    assert frame.pcm[:4].tolist() == [0.0, 0.0, 0.0, 1.0]
    assert not frame.silent


def test_what_comes_too_far_ahead_is_dropped_and_counted() -> None:
    intake = Intake()
    assert len(list(intake.add(np.zeros(60_000, np.float32), now=5.0))) == 31
    assert intake.flood == 0
    assert not list(intake.add(np.zeros(4800, np.float32), now=5.0))
    assert intake.flood == pytest.approx(0.2)
    assert len(list(intake.add(np.zeros(24_000, np.float32), now=6.0))) == 12, "and then it goes on"
    assert intake.flood == pytest.approx(0.2)


def test_only_a_flood_that_lasts_is_an_offence() -> None:
    intake, block = Intake(), np.zeros(24_000, np.float32)
    for _ in range(32):  # as a client that queued its microphone while a model loaded
        list(intake.add(block, now=5.0))
    for second in range(60):
        list(intake.add(block, now=6.0 + second))
    with pytest.raises(ProtocolError, match="came ahead of time"):
        list(intake.add(np.zeros(40 * 24_000, np.float32), now=70.0))


def test_a_network_may_stall_and_then_bring_everything_at_once() -> None:
    intake, block = Intake(), np.zeros(480, np.float32)
    for index in range(100):
        list(intake.add(block, now=0.02 * index))
    for _ in range(250):  # five seconds at once
        list(intake.add(block, now=7.0))
    assert intake.flood == 0


def test_a_clock_that_is_fast_by_a_thousandth_is_no_offence_for_an_hour() -> None:
    """It is 3.6 seconds ahead by then."""
    intake, block = Intake(), np.zeros(24_000, np.float32)
    for index in range(3600):
        list(intake.add(block, now=index / 1.001))
    assert intake.flood == 0


def test_the_pages_of_ffmpeg_are_heard_whole() -> None:
    """When they came from stock `ffmpeg -re -c:a libopus -f ogg`: pages of a second, the first after two."""
    arrivals = [2.15, 3.17, 4.11, 5.14, 6.16, 7.19, 8.12, 9.15, 10.17]
    said = np.random.RandomState(0).uniform(-0.5, 0.5, 24_000 * len(arrivals)).astype(np.float32)
    now, intake, heard = [0.0], Intake(), list[np.ndarray]()
    queue = FrameQueue(PacedGovernor(), lambda: now[0])
    pages = list(zip(arrivals, np.split(said, len(arrivals)), strict=True))
    for tick in range(250):
        now[0] = 2.0 + 0.08 * tick
        while pages and pages[0][0] <= now[0]:
            at, pcm = pages.pop(0)
            for frame in intake.add(pcm, at):
                queue.put(frame)
        if (frame := queue.take_now()) is None:
            queue.ran_dry()
        else:
            heard.append(frame.pcm)
            queue.answered()
    assert (queue.dropped, intake.flood) == (0, 0)
    np.testing.assert_array_equal(np.concatenate(heard), said[: len(said) // 1920 * 1920])


def test_clear_forgets_the_part_of_a_frame() -> None:
    intake = Intake()
    assert not list(intake.add(np.ones(1000, np.float32), now=0.0))
    intake.clear()
    assert not list(intake.add(np.ones(1000, np.float32), now=0.0))
    assert len(list(intake.add(np.ones(920, np.float32), now=0.0))) == 1
