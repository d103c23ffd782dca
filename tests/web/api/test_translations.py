"""/v1/realtime/translations as OpenAI's client meets it: audio and words without turns, up to a session's end."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moshi_mlx.models.config import END_OF_TEXT
from moshi_mlx.runtime.moshi import Moshi, load
from moshi_mlx.runtime.reply import Reply
from moshi_mlx.sampling_config import GREEDY
from moshi_mlx.tasks.translate import Translation
from moshi_mlx.web.limits import Limits
from tests.web.api.speaking import Session, heard, pcm16, translating
from tests.web.running import Running, free, run

pytestmark = pytest.mark.slow
APPEND = "session.input_audio_buffer.append"
FRAMES = 6
TAIL = 0.8


def noise(frames: int) -> np.ndarray:
    return (0.1 * np.random.RandomState(1).standard_normal(1920 * frames)).astype(np.float32)


def voice(session: Session) -> np.ndarray:
    deltas = session.of("session.output_audio.delta")
    return np.concatenate([np.frombuffer(base64.b64decode(one.delta), "<i2") for one in deltas]) / 32768


def words(session: Session) -> str:
    return "".join(one.delta for one in session.of("session.output_transcript.delta"))


@pytest.fixture(scope="module")
def hibiki(hibiki_folder: Path) -> Moshi:
    return load(hibiki_folder, codec="mlx")


@pytest.fixture(scope="module")
def hibiki_server(hibiki: Moshi) -> Iterator[Running]:
    running = Running(hibiki, about={"model": "hibiki"}, limits=Limits(tail=TAIL))
    running.call(running.server.model.ready(lambda: None))
    yield running
    running.stop()


class Collected:
    """A sink of a translation."""

    def __init__(self) -> None:
        self.audio: list[np.ndarray] = []
        self.text = ""

    def write(self, reply: Reply) -> None:
        if reply.audio is not None:
            self.audio.append(reply.audio)
        self.text += reply.text


def test_a_session_is_what_translate_makes_of_the_same_frames(hibiki_server: Running, hibiki: Moshi) -> None:
    async def go() -> Session:
        async with translating(hibiki_server, "hibiki") as session:
            created = session.of("session.created")[0].session
            assert (created.type, created.model, created.audio.output.language) == ("translation", "hibiki", "en")
            await session.say(noise(FRAMES), APPEND)
            await session.send(APPEND, audio=pcm16(noise(FRAMES)[:700]))  # the rest is filled up
            await session.send("session.close")
            await session.ended()
            return session

    session = run(go())
    run(free(hibiki_server))
    assert session.types[-1] == "session.closed"
    assert session.connection._connection.close_code == 1000
    rest = np.pad(heard(noise(FRAMES)[:700]), (0, 1220))
    alone = Collected()
    with hibiki.session(seed=4, sampling=GREEDY) as conversation:
        # The first frame is not heard; and the source of a translation has such a frame of its own.
        source = Translation(np.concatenate([heard(noise(FRAMES)), rest])[1920:], 2, alone, TAIL)
        for item in source:
            if isinstance(item, np.ndarray):
                source.write(conversation.step(item))
            else:
                conversation.mark_end()
    sound = np.concatenate(alone.audio)
    found = voice(session)
    assert words(session)
    assert alone.text.startswith(words(session))
    np.testing.assert_allclose(found, np.clip(sound, -1, 1)[: len(found)], atol=1 / 32768)
    assert len(found) >= 1920 * (FRAMES + TAIL / 0.08 - 2)
    times = [one.elapsed_ms for one in session.of("session.output_audio.delta")]
    assert times == [80 * number for number in range(len(times))]
    first = session.of("session.output_audio.delta")[0]
    assert (first.sample_rate, first.channels, first.format) == (24_000, 1, "pcm16")


def test_a_model_that_talks_can_be_had_in_the_same_way(server: Running, tiny_moshi: Moshi) -> None:
    async def go() -> Session:
        async with translating(server) as session:
            assert session.of("session.created")[0].session.audio.output.language is None
            await session.say(noise(FRAMES), APPEND)
            await session.send("session.update", session={"audio": {"output": {"language": "fr"}}}, event_id="fr")
            await session.send("session.close")
            await session.ended()
            assert [(one.event_id, one.param) for one in session.errors] == [
                ("fr", "session.audio.output.language")
            ]
            return session

    session = run(go())
    run(free(server))
    with tiny_moshi.session(seed=4, sampling=GREEDY) as alone:
        replies = [alone.step(frame) for frame in heard(noise(FRAMES)).reshape(-1, 1920)]
        replies += [alone.step(np.zeros(1920, np.float32)) for _ in range(4)]
    assert session.types[-1] == "session.closed"
    assert "".join(reply.text for reply in replies).startswith(words(session))
    assert len(words(session)) > 5
    sound = np.concatenate([reply.audio for reply in replies if reply.audio is not None])
    found = voice(session)
    assert len(found) >= 1920 * FRAMES  # all that was heard is answered
    np.testing.assert_allclose(found, np.clip(sound, -1, 1)[: len(found)], atol=1 / 32768)


def test_a_translation_that_ends_by_itself_ends_its_session(hibiki_server: Running) -> None:
    """The random model never says that it has ended, so the third step after the mark does in its place."""
    steps: list[str] = []

    def ending(write: Callable[[Reply], None]) -> Callable[[Reply], None]:
        def answer(reply: Reply) -> None:
            steps.append(reply.text)
            write(replace(reply, text=" word", text_id=END_OF_TEXT if len(steps) == FRAMES + 3 else 5))

        return answer

    async def go() -> Session:
        async with translating(hibiki_server, "hibiki") as session:
            client: Any = session.client
            client._answer = ending(client._answer)
            await session.say(noise(FRAMES), APPEND)
            await session.send("session.close")
            await session.ended()
            return session

    session = run(go())
    run(free(hibiki_server))
    assert len(steps) == FRAMES + 3 + 2, "the audio of the last word comes two frames later"
    assert len(session.of("session.output_transcript.delta")) == FRAMES + 3
    assert session.types[-1] == "session.closed"


REFUSED = {
    "language": ({"audio": {"output": {"language": "de"}}}, "session.audio.output.language"),
    "captions": ({"audio": {"input": {"transcription": {"model": "x"}}}}, "session.audio.input.transcription"),
    "noise": (
        {"audio": {"input": {"noise_reduction": {"type": "near_field"}}}},
        "session.audio.input.noise_reduction",
    ),
    "voice": ({"audio": {"output": {"voice": "alloy"}}}, "session.audio.output.voice"),
    "model": ({"model": "x"}, "session.model"),
    "audio": ({"audio": {"input": 3}}, "session.audio.input"),
}


def test_what_a_translation_cannot_be_is_refused_in_words(hibiki_server: Running) -> None:
    async def go() -> None:
        async with translating(hibiki_server, "hibiki") as session:
            for name, (settings, _) in REFUSED.items():
                await session.send("session.update", session=settings, event_id=name)
            await session.until(lambda: len(session.errors) == len(REFUSED))
            found = [(one.event_id, one.param) for one in session.errors]
            assert found == [(name, param) for name, (_, param) in REFUSED.items()]
            await session.send("session.update", session={"audio": {"output": {"language": "en"}}})
            assert (await session.once("session.updated")).session.audio.output.language == "en"
            await session.send("response.create")
            await session.until(lambda: session.errors[-1].code == "unknown_event")
            await session.send("session.close")  # nothing was said
            await session.ended()
            assert session.types[-1] == "session.closed"

    run(go())
