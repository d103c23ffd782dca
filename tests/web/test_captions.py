"""What people say, written down by a second model while they talk with the first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest

from moshi_mlx.runtime.moshi import Moshi, load
from moshi_mlx.tasks.caption_scheduler import CaptionScheduler
from moshi_mlx.tasks.captioner import LATE_FRAMES
from moshi_mlx.tasks.transcribe import SttTiming, Transcriber
from moshi_mlx.tasks.words import Word
from tests.web.running import Running, Talk, free, run, talking

pytestmark = pytest.mark.slow

FRAMES = 28


@pytest.fixture(scope="module")
def transcriber(stt_folder: Path) -> Transcriber:
    """A small random model that takes any noise for words."""
    return Transcriber(load(stt_folder, codec="mlx"), SttTiming(delay=0.5))


@pytest.fixture(scope="module")
def server(tiny_moshi: Moshi, stt_folder: Path) -> Iterator[Running]:
    """Two places, and such a model of its own."""

    def captions() -> CaptionScheduler:
        return CaptionScheduler(Transcriber(load(stt_folder, codec="mlx"), SttTiming(delay=0.5)), 2, "tiny-stt")

    running = Running(tiny_moshi, max_sessions=2, captions=captions)
    running.call(running.server.model.ready(lambda: None))
    yield running
    running.stop()


def noise(seed: int) -> np.ndarray:
    return (0.1 * np.random.RandomState(seed).standard_normal(FRAMES * 1920)).astype(np.float32)


def told(talk: Talk) -> list[tuple[str, float]]:
    return [(one["word"], one["start"]) for one in talk.metadata if one["type"] == "caption"]


@pytest.fixture(scope="module")
def expected(transcriber: Transcriber) -> Callable[[int], list[tuple[str, float]]]:
    """The words of a noise, those that are complete when it ends."""

    def words(seed: int) -> list[tuple[str, float]]:
        stream, words, found = transcriber.moshi.codec.stream(), transcriber.live_words(), []
        for heard in transcriber.decoder.decode([stream.encode(frame) for frame in noise(seed).reshape(-1, 1920)]):
            found += words.push(heard.text_id, heard.vad)
        return [(one.text, one.start) for one in found if isinstance(one, Word)]

    return words


async def metrics(url: str) -> dict[str, float]:
    async with aiohttp.ClientSession() as session, session.get(f"{url}/metrics") as answer:
        lines = [line for line in (await answer.text()).splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def test_two_people_are_told_their_own_words_at_once(
    server: Running, expected: Callable[[int], list[tuple[str, float]]]
) -> None:
    async def person(seed: int) -> list[tuple[str, float]]:
        async with talking(server.url, "audio=pcm&captions=1") as talk:
            await talk.begun()
            words = expected(seed)
            await talk.converse(noise(seed), lambda: len(told(talk)) >= len(words))
            ready: dict[str, Any] = next(one for one in talk.metadata if one.get("state") == "ready")
            assert ready["captions"] == "tiny-stt"
            assert {one["type"] for one in talk.metadata} >= {"caption", "pause"}
            return told(talk)[: len(words)]

    async def go() -> None:
        one, two = await asyncio.gather(person(1), person(2))
        assert len(one) > 5
        assert one == expected(1)
        assert two == expected(2)
        assert one != two

    run(go())


def test_who_restarts_is_told_of_the_new_conversation_alone(
    server: Running, expected: Callable[[int], list[tuple[str, float]]]
) -> None:
    async def go() -> None:
        async with talking(server.url, "audio=pcm&captions=1") as talk:
            await talk.begun()
            await talk.converse(noise(1), lambda: len(told(talk)) > 5)
            await talk.socket.send_bytes(b"\3\3")
            await talk.until(lambda: any(one["type"] == "reset" for one in talk.metadata))
            talk.messages.clear()
            await talk.converse(noise(3), lambda: len(told(talk)) >= len(expected(3)))
            assert told(talk)[: len(expected(3))] == expected(3)

    run(go())


def test_clients_that_do_not_ask_are_told_nothing(server: Running) -> None:
    async def go() -> None:
        for query in ("audio=pcm", "audio=pcm&captions=0", ""):
            async with talking(server.url, query) as talk:
                await talk.begun()
                if query:
                    await talk.converse(noise(1))
                    assert not told(talk)
                else:  # as Kyutai's clients
                    await talk.speak_until(lambda: True)
                    assert not talk.of_kind(4)
        async with talking(server.url, "captions=1") as talk:  # words for whoever asks, whatever the audio
            await talk.begun()
            assert not talk.metadata
        await free(server)
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{server.url}/api/info") as answer,
        ):
            assert (await answer.json())["captions"] == "tiny-stt"

    run(go())


def test_what_there_is_no_time_for_is_dropped_and_counted(tiny_moshi: Moshi, transcriber: Transcriber) -> None:
    clock = count(1 << 40)  # a second passes between any two looks at it, so there is never time for anything
    running = Running(
        tiny_moshi, captions=lambda: CaptionScheduler(transcriber, 1, "tiny-stt", clock=clock.__next__)
    )

    async def go() -> None:
        async with talking(running.url, "audio=pcm&captions=1") as talk:
            await talk.begun()
            await talk.converse(np.concatenate([noise(1), noise(2)]))
            during = (await metrics(running.url))["moshi_uncaptioned_frames_total"]
            assert during == 2 * FRAMES - LATE_FRAMES
            assert len(talk.audio) >= 2 * FRAMES - 3, "the conversation loses nothing"
        await free(running)
        assert (await metrics(running.url))["moshi_uncaptioned_frames_total"] >= during, "it never falls"

    with running:
        run(go())
