"""Nano over the socket: asked, it answers in words and sound; noise leaves it silent; interrupted, it stops."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from moshi_mlx.audio.files import read_audio
from moshi_mlx.checkpoint import nano
from moshi_mlx.checkpoint.nano import RECORDING
from moshi_mlx.runtime.moshi import load
from tests.web.running import Running, Talk, free, run, talking

pytestmark = pytest.mark.slow

GREEDY = "audio=pcm&text_temperature=0&audio_temperature=0"


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    about = {"model": "nano", "greeting": nano.greeting(), "questions": list(nano.questions())}
    running = Running(lambda progress: load("nano", offline=True), about=about)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def asked() -> list[tuple[str, np.ndarray]]:
    """The questions of the demo, as words and as sound."""
    pcm = read_audio(RECORDING).pcm
    return [(one["text"], pcm[int(one["begin"] * 24_000) : int(one["end"] * 24_000)]) for one in nano.captions()]


def quiet(seconds: float) -> np.ndarray:
    return np.zeros(int(24_000 * seconds), np.float32)


def loud(talk: Talk) -> int:
    """Frames of its voice."""
    return sum(float(np.sqrt(np.mean(piece**2))) > 0.01 for piece in talk.audio)


def test_a_spoken_question_is_answered_in_words_and_sound(
    server: Running, asked: list[tuple[str, np.ndarray]]
) -> None:
    question, pcm = asked[0]
    answer = nano.questions()[question]

    async def go() -> None:
        async with talking(server.url, GREEDY) as talk:
            await talk.begun()
            await talk.converse(np.concatenate([quiet(0.5), pcm]), lambda: answer in talk.text)
            await talk.converse(quiet(0.5))  # the last word is being said
            assert talk.text.strip() == answer
            assert loud(talk) >= 8
            (ready, *_) = [one for one in talk.metadata if one.get("state") == "ready"]
            assert ready["model"] == "nano"
            assert question in ready["questions"]
            assert ready["greeting"]

    run(go())
    run(free(server))


def test_noise_leaves_it_silent(server: Running) -> None:
    hiss = (0.005 * np.random.default_rng(1).standard_normal(24_000 * 2)).astype(np.float32)

    async def go() -> None:
        async with talking(server.url, GREEDY) as talk:
            await talk.begun()
            await talk.converse(hiss)
            assert len(talk.audio) >= 20
            assert talk.text == ""
            assert loud(talk) == 0

    run(go())
    run(free(server))


def test_interrupted_it_stops(server: Running) -> None:
    """The last two questions of the demo as they were recorded: the second interrupts the answer to the first."""
    *_, first, second = nano.captions()
    begin, end = (int(24_000 * seconds) for seconds in (first["begin"], second["end"]))
    recording = np.concatenate([quiet(0.5), read_audio(RECORDING).pcm[begin:end]])
    whole, next_one = nano.questions()[first["text"]], nano.questions()[second["text"]]

    async def go() -> None:
        async with talking(server.url, GREEDY) as talk:
            await talk.begun()
            await talk.converse(recording, lambda: next_one in talk.text)
            assert talk.text.strip().startswith(" ".join(whole.split()[:2]))
            assert whole not in talk.text
            assert loud(talk) > 0

    run(go())
