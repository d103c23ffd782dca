"""Captions of several people from one model: everybody's own, and time for whoever is furthest behind."""

from itertools import count
from pathlib import Path

import numpy as np
import pytest

from moshi_mlx.frames import FRAME_SAMPLES
from moshi_mlx.runtime.moshi import load
from moshi_mlx.tasks.caption_scheduler import CaptionScheduler
from moshi_mlx.tasks.captioner import MARGIN, Captioner
from moshi_mlx.tasks.transcribe import SttTiming, Transcriber
from moshi_mlx.tasks.words import Pause, Word
from tests.tasks.test_captioner import texts

EVER = 1e9
SIZE = 3


@pytest.fixture(scope="module")
def transcriber(stt_folder: Path) -> Transcriber:
    return Transcriber(load(stt_folder, codec="mlx"), SttTiming(delay=0.5))


def noise(seed: int, frames: int = 30) -> np.ndarray:
    return (0.1 * np.random.RandomState(seed).standard_normal((frames, FRAME_SAMPLES))).astype(np.float32)


def alone(transcriber: Transcriber, seed: int) -> list[Word | Pause]:
    found: list[Word | Pause] = []
    captions = Captioner(transcriber, found.append)
    for frame in noise(seed):
        captions.hear(frame)
    captions.work(EVER)
    return found


def test_everybody_gets_what_they_would_get_alone_also_in_a_place_used_before(
    transcriber: Transcriber,
) -> None:
    captions = CaptionScheduler(transcriber, SIZE, "tiny-stt")
    for seeds in ((1, 2, 3), (4, 5, 6)):
        found: dict[int, list[Word | Pause]] = {seed: [] for seed in seeds}
        people = {seed: captions.begin(found[seed].append) for seed in seeds}
        for frames in zip(*map(noise, seeds), strict=True):
            for seed, frame in zip(seeds, frames, strict=True):
                people[seed].hear(frame)
            captions.work(EVER)
        for seed in seeds:
            assert texts(found[seed]) == texts(alone(transcriber, seed))
            captions.end(people[seed])
    assert found[4] != found[5]


def test_time_goes_to_who_is_furthest_behind_and_is_kept(transcriber: Transcriber) -> None:
    ticks = count()
    captions = CaptionScheduler(transcriber, SIZE, "tiny-stt", clock=lambda: next(ticks) * 0.01)
    people = [captions.begin(lambda event: None) for _ in range(SIZE)]
    for captioner, frames in zip(people, (10, 20, 30), strict=True):
        for frame in noise(1, frames):
            captioner.hear(frame)
    while max(captioner.waiting for captioner in people) > 10:
        now = next(ticks) * 0.01
        captions.work(now + 0.05 + MARGIN)
        refused = SIZE * 0.01  # asking each for the last time, which this clock counts
        assert (next(ticks) - 1) * 0.01 <= now + 0.05 + refused + MARGIN, "it worked for too long"
    left = [captioner.waiting for captioner in people]
    assert max(left) - min(left) <= 1
    captions.end(people[0])
    captions.work(EVER)
    assert [captioner.waiting for captioner in people] == [left[0], 0, 0], "nobody listens to the first any more"
