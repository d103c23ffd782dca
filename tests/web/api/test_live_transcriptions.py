"""Transcription sessions of /v1/realtime, and translation beside a model that talks, with OpenAI's client."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moshi_mlx.frames import silence
from moshi_mlx.runtime.moshi import Moshi, load
from moshi_mlx.runtime.reply import Reply
from moshi_mlx.sampling_config import GREEDY
from moshi_mlx.tasks.transcribe import SttTiming, Transcriber
from moshi_mlx.tasks.words import Pause, Word
from moshi_mlx.web.limits import Limits
from moshi_mlx.web.model_pool import ModelPool, ServedModel
from tests.web.api.conftest import found
from tests.web.api.speaking import heard, pcm16, realtime, translating
from tests.web.running import PATIENCE, Running, free, run

pytestmark = pytest.mark.slow
FRAMES = 16
COMPLETED = "conversation.item.input_audio_transcription.completed"
DELTA = "conversation.item.input_audio_transcription.delta"
TIMING = SttTiming(delay=0.5, prefix=0.16)


def noise(frames: int = FRAMES, seed: int = 1) -> np.ndarray:
    return (0.1 * np.random.RandomState(seed).standard_normal(1920 * frames)).astype(np.float32)


@pytest.fixture(scope="module")
def stt(stt_folder: Path) -> Transcriber:
    """A small random model that takes any noise for words."""
    return Transcriber(load(stt_folder, codec="mlx"), TIMING)


@pytest.fixture(scope="module")
def server(tiny_moshi: Moshi, stt: Transcriber, folders: dict[str, Path]) -> Iterator[Running]:
    heard = ServedModel("stt")
    heard.follow(lambda: "ready")
    heard.adopt_transcriber(stt)
    models = [heard, found(folders["hibiki"], "hibiki")]
    running = Running(tiny_moshi, pool=ModelPool(models), limits=Limits(tail=0.4))
    running.call(running.server.model.ready(lambda: None))
    yield running
    running.stop()


def alone(stt: Transcriber, pcm: np.ndarray) -> list[Word | Pause]:
    """What the model makes of audio that it hears live."""
    words = stt.live_words()
    settling = 1 + stt.settling
    with stt.moshi.session(0, GREEDY) as session:
        events = []
        for number, frame in enumerate([silence()] * settling + list(pcm.reshape(-1, 1920))):
            reply = session.step(frame)
            assert reply.text_id is not None
            found = words.push(reply.text_id, reply.vad)
            events += found if number >= settling else []
    return events


def texts(events: list[Word | Pause]) -> list[str]:
    return [event.text for event in events if isinstance(event, Word)]


def test_what_is_committed_is_transcribed_as_alone(server: Running, stt: Transcriber) -> None:
    """Sent all at once, which is faster than it was spoken; silence follows, in which the last words come."""
    long = noise(36)  # more than the two and a half seconds that may come ahead of a conversation
    said = texts(alone(stt, heard(long)))

    async def go() -> Any:
        async with realtime(server, "stt") as session:
            created = session.of("session.created")[0].session
            assert created.type == "transcription"
            assert created.audio.input.transcription.model == "stt"
            off = {"type": "transcription", "audio": {"input": {"turn_detection": None}}}
            await session.send("session.update", session=off)
            for part in np.split(long, 4):
                await session.send("input_audio_buffer.append", audio=pcm16(part))
            await session.send("input_audio_buffer.commit", event_id="now")
            await session.once("input_audio_buffer.committed")
            await session.once(DELTA, len(said) + 1)
            assert not session.errors
            assert session.client.lost()["dropped"] == 0
            return session

    session = run(go())
    assert len(said) > 3
    assert [one.delta.strip() for one in session.of(DELTA)][: len(said)] == said
    assert {one.item_id for one in session.of(DELTA)} == {session.of("input_audio_buffer.committed")[0].item_id}
    assert not session.of("input_audio_buffer.speech_started")


def test_a_transcription_can_be_asked_for_without_a_model(server: Running) -> None:
    async def go() -> None:
        async with realtime(server, "", intent="transcription") as session:
            assert session.of("session.created")[0].session.audio.input.transcription.model == "stt"

    run(go())


def test_the_models_pauses_end_items_and_no_word_is_lost(server: Running, stt: Transcriber) -> None:
    """The random model expects no silence, so its heads are made to say so at one frame."""
    count = 0

    def expecting(write: Callable[[Reply], None]) -> Callable[[Reply], None]:
        def answer(reply: Reply) -> None:
            nonlocal count
            count += 1
            assert reply.vad is not None
            vad = np.zeros_like(reply.vad)
            vad[2, 0] = float(count == 12)
            write(replace(reply, vad=vad))

        return answer

    async def go() -> Any:
        async with realtime(server, "stt") as session:
            created = session.of("session.created")[0].session
            assert created.audio.input.turn_detection.type == "semantic_vad"
            client: Any = session.client
            client._answer = expecting(client._answer)
            await session.say(np.concatenate([np.zeros(3840, np.float32), noise()]))
            await session.caught_up(FRAMES + 2)
            return session

    session = run(go())
    said = texts(alone(stt, np.concatenate([np.zeros(3840, np.float32), heard(noise())])))
    deltas = [one.delta.strip() for one in session.of(DELTA)]
    assert len(said) > 2
    assert deltas[: len(said)] == said
    (stopped,) = session.of("input_audio_buffer.speech_stopped")
    assert stopped.audio_end_ms == 12 * 80  # what was heard by then
    item = session.of("conversation.item.done")[0].item
    assert item.id == stopped.item_id


def test_by_the_sound_an_item_ends_with_its_turn_and_silence_brings_its_last_words(server: Running) -> None:
    vad = {"type": "transcription", "audio": {"input": {"turn_detection": {"type": "server_vad"}}}}

    async def go() -> Any:
        async with realtime(server, "stt") as session:
            await session.send("session.update", session=vad)
            await session.say(
                np.concatenate([np.zeros(3840, np.float32), noise(8), np.zeros(1920 * 12, np.float32)])
            )
            await session.once(COMPLETED)  # after two seconds in which nothing came
            return session

    session = run(go())
    assert session.of("input_audio_buffer.speech_stopped")[0].audio_end_ms == 800
    completed = session.of(COMPLETED)[0]
    assert completed.usage.seconds == pytest.approx(0.8)
    assert completed.transcript == "".join(
        one.delta for one in session.of(DELTA) if one.item_id == completed.item_id
    )


def test_what_a_transcription_cannot_be_is_refused_in_words(server: Running) -> None:
    async def go() -> None:
        async with realtime(server, "stt") as session:
            for settings in (
                {"type": "realtime"},
                {"instructions": "x"},
                {"include": ["item.input_audio_transcription.logprobs"]},
            ):
                await session.send("session.update", session={"type": "transcription", **settings})
            await session.send("response.create")
            await session.until(lambda: len(session.errors) == 4)
            assert [one.param for one in session.errors] == [
                "session.type",
                "session.instructions",
                "session.include",
                "type",
            ]

    run(go())


def test_it_goes_on_beside_a_conversation(server: Running, stt: Transcriber) -> None:
    """The one place of the model that talks is taken, and both get what they get alone."""

    async def go() -> Any:
        async with realtime(server) as talk, realtime(server, "stt") as session:
            clients = {type(client).__name__: client for client in server.server.clients}
            for frame in noise(6).reshape(-1, 1920):
                await session.send("input_audio_buffer.append", audio=pcm16(frame))
                await talk.send("input_audio_buffer.append", audio=pcm16(frame))
                talk.sent += 1
                await talk.until(lambda: clients["RealtimeClient"]._frames >= talk.sent)
            await session.send("input_audio_buffer.commit")
            await session.once("conversation.item.done")
            await talk.once("response.output_audio.delta", 3)
            assert clients["RealtimeClient"].lost()["dropped"] == 0

    run(go())


def test_translation_beside_is_a_session_of_its_own(server: Running, folders: dict[str, Path]) -> None:
    async def go() -> Any:
        async with translating(server, "hibiki") as session:
            assert session.of("session.created")[0].session.audio.output.language == "en"
            await session.say(noise(6), "session.input_audio_buffer.append")
            await session.send("session.close")
            await session.ended()
            return session

    session = run(go())
    run(free(server))
    assert session.types[-1] == "session.closed"
    hibiki = load(folders["hibiki"], codec="mlx")
    with hibiki.session(4, GREEDY) as conversation:
        replies = [conversation.step(frame) for frame in heard(noise(6)).reshape(-1, 1920)]
    words = "".join(one.delta for one in session.of("session.output_transcript.delta"))
    said = "".join(reply.text for reply in replies)
    assert said
    assert words.startswith(said)
    sound = np.concatenate([reply.audio for reply in replies if reply.audio is not None])
    deltas = session.of("session.output_audio.delta")
    voice = np.concatenate([np.frombuffer(base64.b64decode(one.delta), "<i2") for one in deltas]) / 32768
    np.testing.assert_allclose(voice[: len(sound)], np.clip(sound, -1, 1), atol=1 / 32768)
    assert len(voice) == 1920 * (6 + 0.4 / 0.08 - 2)  # all of the tail, but for the model's delay


def test_an_idle_session_costs_nothing_and_one_that_is_left_leaves_nothing(server: Running) -> None:
    async def go() -> None:
        async with realtime(server, "stt") as session:
            await session.say(noise(3))
            await session.until(lambda: session.client._frames == 3)
            (job,) = server.server.jobs._jobs
            done = job.slices
            for _ in range(20):
                await session.send("input_audio_buffer.clear")
            await session.once("input_audio_buffer.cleared", 20)
            assert job.slices == done, "it works while there is nothing to do"

    run(go())

    async def gone() -> None:
        while server.server.jobs.count or server.server.clients:
            await asyncio.sleep(0.01)

    run(asyncio.wait_for(gone(), PATIENCE))


def test_a_server_of_one_model_alone_transcribes_live(stt: Transcriber) -> None:
    running = Running(stt.moshi, main=ServedModel("stt"), about={"model": "stt"})
    running.call(running.server.model.ready(lambda: None))

    async def go() -> None:
        async with realtime(running, "stt") as session:
            await session.say(noise(8))
            await session.once(DELTA)

    with running:
        run(go())
