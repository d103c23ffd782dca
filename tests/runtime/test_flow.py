"""The lag governor on a simulated clock: late answers are prevented by dropping frames, silent ones first."""

from collections.abc import Callable
from itertools import count

import numpy as np
import pytest

from moshi_mlx.frames import FRAME_SAMPLES, FRAME_SECONDS, is_silent, level
from moshi_mlx.runtime.flow import LAG_LIMIT, FrameQueue, HeardFrame, LagGovernor

OVERHEAD = 0.18  # a frame, two devices of 40 ms, a cushion of 20 ms
CODEC = 0.005  # seconds, each way


class Simulation:
    """Frames every 80 ms through the queue, a pipeline of encoder, model and decoder, on a clock of its own."""

    def __init__(
        self,
        step: Callable[[float], float],
        speech: Callable[[int], bool] = lambda number: True,
        limit: float = LAG_LIMIT,
    ) -> None:
        self.now = 0.0
        self.step = step
        self.governor = LagGovernor(limit, overhead=OVERHEAD)
        self.queue = FrameQueue(self.governor, clock=lambda: self.now)
        self.speech = speech
        self.answers: list[tuple[float, int, float]] = []  # time, number of the frame, lag
        self.dropped_at: list[float] = []

    def run(self, seconds: float) -> None:
        """The model is a queue of its own: a frame starts when the one before is done."""
        model_free = 0.0
        done: list[tuple[float, int]] = []  # when answers come
        for number in count():
            arrival = (number + 1) * FRAME_SECONDS
            if arrival > seconds:
                return
            while done and done[0][0] <= arrival:
                self.now, answered = done.pop(0)
                self.answers.append((self.now, answered, self.queue.answered() + OVERHEAD))
                model_free = self._hand_over(done, model_free)
            self.now = arrival
            before = self.queue.dropped
            pcm = np.full(1, number, dtype=np.float32)
            self.queue.put(HeardFrame(pcm, arrival, not self.speech(number)))
            self.dropped_at += [arrival] * (self.queue.dropped - before)
            model_free = self._hand_over(done, model_free)

    def _hand_over(self, done: list[tuple[float, int]], model_free: float) -> float:
        while self.queue._ready():
            frame = self.queue._take()
            model_free = max(self.now + CODEC, model_free) + self.step(self.now)
            done.append((model_free + CODEC, int(frame.pcm[0])))
        return model_free


def slow_for_a_minute(now: float) -> float:
    return 0.12 if 10 <= now < 70 else 0.05


def test_a_model_that_is_slow_for_a_minute_never_answers_later_than_the_limit() -> None:
    simulation = Simulation(slow_for_a_minute)
    simulation.run(90)
    assert max(lag for _, _, lag in simulation.answers) <= LAG_LIMIT
    slow = [time for time in simulation.dropped_at if 10 <= time < 70.5]
    assert 60 / 0.08 - 60 / 0.12 - 5 <= len(slow) <= 60 / 0.08 - 60 / 0.13 + 5
    assert len(simulation.answers) + simulation.queue.dropped == pytest.approx(90 / 0.08, abs=2)
    numbers = [number for _, number, _ in simulation.answers]
    assert numbers == sorted(numbers)


def test_it_is_back_to_normal_at_once_when_the_model_is_fast_again() -> None:
    simulation = Simulation(slow_for_a_minute)
    simulation.run(90)
    assert simulation.dropped_at
    assert all(10 < time < 70.5 for time in simulation.dropped_at)
    assert max(lag for time, _, lag in simulation.answers if time > 70.5) < 0.25


@pytest.mark.parametrize("step", [0.03, 0.06, 0.075])
def test_a_model_that_keeps_up_hears_every_frame(step: float) -> None:
    simulation = Simulation(lambda now: step)
    simulation.run(60)
    assert simulation.queue.dropped == 0
    assert max(lag for _, _, lag in simulation.answers) <= OVERHEAD + step + 3 * CODEC


def test_a_hiccup_is_caught_up_and_the_next_frames_are_heard() -> None:
    simulation = Simulation(lambda now: 0.7 if 5 <= now < 5.08 else 0.05)
    simulation.run(12)
    assert simulation.queue.dropped <= 8
    assert all(5 < time < 6 for time in simulation.dropped_at)
    assert max(lag for time, _, lag in simulation.answers if time > 6.2) < 0.25


def test_silent_frames_go_before_speech() -> None:
    """Every third frame is silent, about as many as have to go; with time to wait there is more to choose from."""
    simulation = Simulation(lambda now: 0.115, speech=lambda number: number % 3 > 0, limit=0.8)
    simulation.run(60)
    heard = {number for _, number, _ in simulation.answers}
    spoken = [number for number in range(700) if number % 3]
    silent = [number for number in range(700) if number % 3 == 0]
    assert simulation.queue.dropped > 100
    assert sum(number in heard for number in spoken) / len(spoken) > 0.9
    assert sum(number in heard for number in silent) / len(silent) < 0.2


def test_the_oldest_goes_first_among_equals_and_the_newest_never() -> None:
    governor = LagGovernor(overhead=OVERHEAD)
    governor.taken(0.0, 0.0)
    frame = np.zeros(1, dtype=np.float32)
    speech = [HeardFrame(frame, 0.08 * n, False) for n in range(6)]
    assert governor.drop(speech, 0.5) == 0
    assert governor.drop([*speech[:3], HeardFrame(frame, 0.24, True), *speech[4:]], 0.5) == 3
    assert governor.drop([*speech[:5], HeardFrame(frame, 0.4, True)], 0.5) == 0
    assert governor.drop(speech[:1], 9.0) is None


def test_a_silent_newcomer_goes_before_speech_that_is_still_in_time() -> None:
    governor = LagGovernor(overhead=OVERHEAD)
    governor.taken(0.0, 0.0)
    governor.pace = 0.12
    frame = np.zeros(1, dtype=np.float32)
    assert governor.drop([HeardFrame(frame, 0.32, False), HeardFrame(frame, 0.4, True)], 0.4) == 1
    assert governor.drop([HeardFrame(frame, 0.32, False), HeardFrame(frame, 0.4, False)], 0.4) == 0


def test_an_answer_that_never_comes_does_not_stop_the_frames() -> None:
    governor = LagGovernor()
    frame = HeardFrame(np.zeros(1, dtype=np.float32), 1.0, False)
    governor.taken(0.0, 0.0)
    governor.taken(0.1, 0.1)
    assert not governor.may_take(frame, 1.0)
    assert governor.may_take(frame, 2.5)


def test_silence_is_told_from_quiet_speech() -> None:
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(FRAME_SAMPLES).astype(np.float32)
    assert is_silent(np.zeros(FRAME_SAMPLES, dtype=np.float32))
    assert is_silent(0.001 * noise)  # -60 dBFS
    assert not is_silent(0.02 * noise)  # -34 dBFS
    assert level(0.1 * noise) == pytest.approx(-20, abs=0.3)
    assert level(np.zeros(5, dtype=np.float32)) == -120
