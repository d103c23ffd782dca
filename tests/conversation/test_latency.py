"""The latency breakdown, on a room of which all delays are known."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from moshi_mlx.audio.duplex import DuplexStatus
from moshi_mlx.conversation.latency import CLICK, EchoBypass, LatencyBreakdown, LatencyProbe, find_click
from moshi_mlx.frames import FRAME_SAMPLES, SAMPLE_RATE
from moshi_mlx.runtime.reply import Reply
from moshi_mlx.runtime.stats import Stats

ROOM = 7_000  # samples from what a reply belongs to until it is heard again: 292 ms
WAITED, BUFFERED = 0.05, 0.04
NOISE = 0.003


class Room:
    """A Duplex whose microphone hears its speaker, unless `deaf`. drop_at: frames, one is lost before each."""

    def __init__(self, deaf: bool = False, drop_at: tuple[int, ...] = ()) -> None:
        self._deaf, self._drop_at = deaf, drop_at
        self._air = np.zeros(300 * FRAME_SAMPLES, np.float32)
        self._now = 0  # samples the microphone has heard
        self._dropped = 0
        self.closed = False

    def __iter__(self) -> Iterator[np.ndarray]:
        noise = np.random.default_rng(1)
        number = 0
        while not self.closed:
            if number in self._drop_at:
                self._now += FRAME_SAMPLES
                self._dropped += 1
            self._now += FRAME_SAMPLES
            heard = self._air[self._now - FRAME_SAMPLES : self._now]
            number += 1
            yield heard + NOISE * noise.standard_normal(FRAME_SAMPLES).astype(np.float32)

    def write(self, reply: Reply) -> None:
        start = self._now - FRAME_SAMPLES + ROOM
        if not self._deaf and reply.audio is not None:
            self._air[start : start + FRAME_SAMPLES] += 0.3 * reply.audio

    def status(self) -> DuplexStatus:
        return DuplexStatus(
            -60, -60, 0.3, WAITED, BUFFERED, (0.03, 0.02), 0.04, 0.02, self._dropped, 0, 0.0, 0, 0, [], False, 1.0
        )

    def close(self) -> None:
        self.closed = True


def probe(room: Room, clicks: int = 4) -> LatencyProbe:
    """A talk with someone whose words nobody hears."""
    listening = LatencyProbe(room, clicks)  # pyright: ignore[reportArgumentType]
    for _ in listening:
        listening.write(Reply(np.full(FRAME_SAMPLES, 0.5, np.float32), "word", 0.0))
    return listening


def broken_down(listening: LatencyProbe, echo: Any = None) -> LatencyBreakdown:
    stats = Stats()
    for stage, ms in ((stats.encode, 5), (stats.generate, 20), (stats.decode, 10)):
        stage.add(ms / 1000)
    return listening.breakdown(stats, echo or EchoBypass(Quiet()), model_frames=1)


class Quiet:
    """An echo canceller that leaves nothing."""

    def __init__(self) -> None:
        self.resets = 0

    def process(self, near: np.ndarray, far: np.ndarray) -> np.ndarray:
        return np.zeros_like(near)

    def reset(self) -> None:
        self.resets += 1


def test_the_way_there_and_back_is_what_the_room_takes() -> None:
    listening = probe(Room())
    assert listening.played == 4
    assert listening.times == pytest.approx([ROOM / SAMPLE_RATE] * 4, abs=1 / SAMPLE_RATE)


def test_the_stages_add_up_to_the_click_and_the_models_own_delay() -> None:
    breakdown = broken_down(probe(Room()))
    found = {stage.name: stage.ms for stage in breakdown.stages}
    assert found["a frame fills"] == found["Moshi's acoustic delay"] == 80
    assert (found["encode"], found["generate"], found["decode"]) == (5, 20, 10)
    assert found["waiting between these"] == pytest.approx(1000 * WAITED - 35, abs=0.1)
    assert found["cushion before the speaker"] == pytest.approx(1000 * BUFFERED)
    assert (found["microphone, as the system says"], found["speaker, as the system says"]) == (30, 20)
    assert breakdown.mouth_to_ear_ms == pytest.approx(1000 * ROOM / SAMPLE_RATE + 80, abs=0.2)
    assert breakdown.as_dict()["mouth_to_ear_ms"] == breakdown.mouth_to_ear_ms
    assert (breakdown.played, breakdown.heard) == (4, 4)


def test_a_click_with_a_frame_left_out_behind_it_is_not_counted() -> None:
    listening = probe(Room(drop_at=(16,)))  # the first click is in the 16th reply
    assert listening.times == pytest.approx([ROOM / SAMPLE_RATE] * 3, abs=1 / SAMPLE_RATE)
    assert listening.played == 4


def test_a_frame_left_out_before_a_click_does_not_matter() -> None:
    assert len(probe(Room(drop_at=(3,))).times) == 4


def test_unheard_the_sum_is_what_is_known_of_the_parts() -> None:
    breakdown = broken_down(probe(Room(deaf=True)))
    assert (breakdown.played, breakdown.heard) == (4, 0)
    assert breakdown.mouth_to_ear_ms == pytest.approx(30 + 80 + 1000 * (WAITED + BUFFERED) + 20 + 80, abs=0.2)


def test_what_a_canceller_holds_back_counts_and_what_it_takes_is_still_heard() -> None:
    canceller = Quiet()
    echo = EchoBypass(canceller, holds_back=0.009)
    near = np.ones(FRAME_SAMPLES, np.float32)
    assert echo.process(near, near) is near
    echo.reset()
    assert (len(echo.times), canceller.resets) == (1, 1)
    assert {stage.name: stage.ms for stage in broken_down(probe(Room()), echo).stages}[
        "held back by the echo canceller"
    ] == 9


def test_it_ends_when_the_audio_ends() -> None:
    room = Room()
    listening = LatencyProbe(room)  # pyright: ignore[reportArgumentType]
    for number, _ in enumerate(listening):
        listening.write(Reply(None, "", 0.0))
        if number == 5:
            listening.close()
    assert room.closed
    assert listening.played == 0


@pytest.mark.parametrize("at", [0, 1_000, 24_000])
def test_a_click_is_found_in_noise(at: int) -> None:
    pcm = 0.02 * np.random.default_rng(2).standard_normal(26_000).astype(np.float32)
    pcm[at : at + len(CLICK)] += 0.15 * CLICK / np.abs(CLICK).max()
    assert find_click(pcm) == pytest.approx(at, abs=1)


def test_a_click_is_found_behind_a_small_loudspeaker_in_a_room() -> None:
    rng = np.random.default_rng(3)
    response = rng.standard_normal(2_400) * np.exp(-np.arange(2_400) / 400) * 0.1
    response[0] = 1.0
    pcm = np.zeros(26_000)
    pcm[5_000 : 5_000 + len(CLICK)] = CLICK
    heard = np.convolve(pcm, response)[:26_000] + 0.005 * rng.standard_normal(26_000)
    assert find_click(heard.astype(np.float32)) == pytest.approx(5_000, abs=2)


@pytest.mark.parametrize("seed", range(5))
def test_noise_and_silence_are_no_click(seed: int) -> None:
    assert find_click(np.random.default_rng(seed).standard_normal(26_000).astype(np.float32)) is None
    assert find_click(np.zeros(26_000, np.float32)) is None
