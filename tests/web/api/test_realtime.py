"""/v1/realtime as OpenAI's client meets it: turns as responses and items, interruption, what is refused."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
import soundfile
import soxr
from websockets.exceptions import InvalidStatus

from moshi_mlx.audio.files import read_audio
from moshi_mlx.checkpoint import nano
from moshi_mlx.checkpoint.nano import RECORDING
from moshi_mlx.checkpoint.voices import Voices
from moshi_mlx.quality.transcription import word_errors
from moshi_mlx.runtime.moshi import Moshi, load
from moshi_mlx.runtime.reply import Reply
from moshi_mlx.sampling_config import GREEDY
from moshi_mlx.tasks.caption_scheduler import CaptionScheduler
from moshi_mlx.tasks.persona import Role, persona
from moshi_mlx.tasks.transcribe import load_transcriber
from moshi_mlx.web.access import Access
from moshi_mlx.web.limits import Limits, Rate
from moshi_mlx.web.prompts import Prompts
from tests.persona_folder import VOICE, write_persona
from tests.web.api.speaking import Session, heard, openai, pcm16, realtime
from tests.web.running import PATIENCE, Running, free, run

pytestmark = pytest.mark.slow
QUIET = np.zeros(1920, np.float32)
FRAMES = 8


def noise(frames: int, seed: int = 1) -> np.ndarray:
    return (0.1 * np.random.RandomState(seed).standard_normal(1920 * frames)).astype(np.float32)


def replies(moshi: Moshi, pcm: np.ndarray, **how: Any) -> list[Reply]:
    """What a session says to audio."""
    with moshi.session(seed=4, sampling=GREEDY, **how) as session:
        return [session.step(frame) for frame in pcm.reshape(-1, 1920)]


def words(session: Session) -> str:
    return "".join(one.delta for one in session.of("response.output_audio_transcript.delta"))


def voice(session: Session) -> np.ndarray:
    deltas = session.of("response.output_audio.delta")
    return np.concatenate([np.frombuffer(base64.b64decode(one.delta), "<i2") for one in deltas]) / 32768


def test_a_question_and_its_answer_are_an_item_and_a_response() -> None:
    (question, answer), *_ = nano.questions().items()
    (said,) = (one for one in nano.captions() if one["text"] == question)
    pcm = read_audio(RECORDING).pcm[int(said["begin"] * 24_000) : int(said["end"] * 24_000)]
    running = Running(lambda progress: load("nano", offline=True), about={"model": "nano"})

    async def go() -> Session:
        async with realtime(running, "nano") as session:
            await session.say(np.concatenate([QUIET] * 6 + [pcm, np.zeros(-len(pcm) % 1920, np.float32)]))
            await session.silent_until("response.done")
            return session

    with running:
        session = run(go())
    # Nano begins its answer before the pause that ends the question is over.
    both = ["response.output_audio_transcript.delta", "response.output_audio.delta"]
    told = [type for type in dict.fromkeys(session.types) if type not in both]
    assert told == [
        "session.created",
        "input_audio_buffer.speech_started",
        "response.created",
        "response.output_item.added",
        "conversation.item.added",
        "response.content_part.added",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.done",
        "response.output_audio.done",
        "response.output_audio_transcript.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.done",
    ]
    assert words(session) == answer
    (done,) = session.of("response.done")
    assert done.response.status == "completed"
    (item,) = done.response.output
    assert (item.role, item.content[0].transcript) == ("assistant", answer)
    assert {one.response_id for type in both for one in session.of(type)} == {done.response.id}
    assert {one.item_id for type in both for one in session.of(type)} == {item.id}
    (started,), (stopped,) = (session.of(f"input_audio_buffer.speech_{how}") for how in ("started", "stopped"))
    assert started.item_id == stopped.item_id == session.of("input_audio_buffer.committed")[0].item_id
    assert 320 <= started.audio_start_ms < stopped.audio_end_ms <= 80 * (6 + len(pcm) / 1920 + 1)
    assert np.abs(voice(session)).max() > 0.05


def test_a_response_is_what_a_session_says(server: Running, tiny_moshi: Moshi) -> None:
    async def go() -> Session:
        async with realtime(server) as session:
            await session.say(noise(FRAMES))
            await session.until(lambda: len(session.of("response.output_audio.delta")) >= FRAMES - 2)
            return session

    session = run(go())
    alone = replies(tiny_moshi, heard(noise(FRAMES)))
    sound = np.concatenate([reply.audio for reply in alone if reply.audio is not None])
    found = voice(session)
    np.testing.assert_allclose(found, np.clip(sound, -1, 1)[: len(found)], atol=1 / 32768)
    assert len(words(session)) > 5
    said = "".join(reply.text for reply in alone).strip()
    assert said.startswith(words(session))
    assert session.of("response.created")[0].response.status == "in_progress"


@pytest.mark.parametrize(("name", "subtype"), [("audio/pcmu", "ULAW"), ("audio/pcma", "ALAW")])
def test_a_telephone_speaks_and_hears(server: Running, tiny_moshi: Moshi, name: str, subtype: str) -> None:
    pcm = noise(FRAMES)
    narrow = soxr.resample(pcm, 24_000, 8_000, quality="MQ")
    raw = io.BytesIO()
    soundfile.write(raw, narrow, 8_000, format="RAW", subtype=subtype)
    data = raw.getvalue()
    back, _ = soundfile.read(
        io.BytesIO(data), format="RAW", subtype=subtype, samplerate=8_000, channels=1, dtype="float32"
    )
    stream = soxr.ResampleStream(8_000, 24_000, 1, dtype="float32", quality="MQ")
    # In no whole frames, and no whole chunks of 20 ms.
    pieces = [stream.resample_chunk(back[start : start + 333]) for start in range(0, len(back), 333)]
    settings = {"type": "realtime", "audio": {way: {"format": {"type": name}} for way in ("input", "output")}}

    async def go() -> Session:
        async with realtime(server) as session:
            await session.send("session.update", session=settings)
            updated = await session.once("session.updated")
            assert updated.session.audio.input.format.type == updated.session.audio.output.format.type == name
            for number in range(len(pieces)):
                chunk = base64.b64encode(data[333 * number : 333 * (number + 1)]).decode()
                await session.send("input_audio_buffer.append", audio=chunk)
                await session.caught_up(sum(map(len, pieces[: number + 1])) // 1920)
            await session.until(lambda: len(session.of("response.output_audio.delta")) >= FRAMES - 3)
            return session

    session = run(go())
    wide = np.concatenate(pieces)
    alone = replies(tiny_moshi, wide[: len(wide) // 1920 * 1920])
    said = "".join(reply.text for reply in alone).strip()
    assert words(session)
    assert said.startswith(words(session).strip()[: len(said)])
    sound = np.concatenate([reply.audio for reply in alone if reply.audio is not None])
    deltas = b"".join(base64.b64decode(one.delta) for one in session.of("response.output_audio.delta"))
    line, _ = soundfile.read(
        io.BytesIO(deltas), format="RAW", subtype=subtype, samplerate=8_000, channels=1, dtype="float32"
    )
    expected = soxr.resample(np.clip(sound, -1, 1), 24_000, 8_000, quality="MQ")[: len(line)]
    line = line[: len(expected)]
    body = slice(0, len(line) - 400)  # the end of one is in the middle of the other
    error = np.sqrt(np.mean((line[body] - expected[body]) ** 2))
    assert error < 0.05 * np.sqrt(np.mean(expected[body] ** 2))


def test_what_is_cancelled_is_not_heard_and_goes_on(server: Running) -> None:
    async def go() -> None:
        async with realtime(server) as session:
            await session.say(noise(FRAMES))
            created = await session.once("response.created")
            await session.send("response.cancel", response_id="another", event_id="wrong")
            await session.until(lambda: session.errors)
            await session.send("response.cancel")
            done = await session.once("response.done")
            assert (done.response.id, done.response.status) == (created.response.id, "cancelled")
            assert done.response.status_details.reason == "client_cancelled"
            deltas = len(session.of("response.output_audio.delta"))
            await session.send("response.cancel", event_id="again")
            await session.say(noise(4))  # the model talks on
            assert [(one.code, one.event_id) for one in session.errors] == [
                ("response_cancel_not_active", "wrong"),
                ("response_cancel_not_active", "again"),
            ]
            assert len(session.of("response.output_audio.delta")) == deltas
            await session.send("output_audio_buffer.clear")
            cleared = await session.once("output_audio_buffer.cleared")
            assert cleared.response_id == created.response.id

    run(go())


def test_what_is_truncated_is_cut_where_it_was_played(server: Running) -> None:
    async def go() -> None:
        async with realtime(server) as session:
            await session.say(noise(FRAMES))
            await session.once("response.output_audio.delta", 4)
            item = session.of("response.output_item.added")[0].item.id
            for wrong in ({"item_id": "none"}, {"audio_end_ms": 60_000}, {"content_index": 1}):
                fields = {"item_id": item, "content_index": 0, "audio_end_ms": 160, **wrong}
                await session.send("conversation.item.truncate", **fields)
            await session.until(lambda: len(session.errors) == 3)
            assert [one.param for one in session.errors] == ["item_id", "audio_end_ms", "content_index"]
            await session.send("conversation.item.truncate", item_id=item, content_index=0, audio_end_ms=160)
            truncated = await session.once("conversation.item.truncated")
            assert (truncated.item_id, truncated.audio_end_ms) == (item, 160)
            assert session.of("response.done")[0].response.status == "cancelled"
            await session.send("conversation.item.retrieve", item_id=item)
            retrieved = await session.once("conversation.item.retrieved")
            assert retrieved.item.status == "incomplete"
            assert retrieved.item.content[0].transcript is None

    run(go())


def test_words_alone_can_be_had(server: Running, tiny_moshi: Moshi) -> None:
    async def go() -> Session:
        async with realtime(server) as session:
            await session.send("session.update", session={"type": "realtime", "output_modalities": ["text"]})
            assert (await session.once("session.updated")).session.output_modalities == ["text"]
            await session.say(noise(FRAMES))
            await session.once("response.output_text.delta", 2)
            return session

    session = run(go())
    said = "".join(one.delta for one in session.of("response.output_text.delta"))
    assert "".join(reply.text for reply in replies(tiny_moshi, heard(noise(FRAMES)))).strip().startswith(said)
    assert session.of("response.content_part.added")[0].part.type == "text"
    assert not session.of("response.output_audio.delta")


def test_a_button_to_talk_commits_and_the_model_hears_silence_after(server: Running) -> None:
    async def go() -> None:
        async with realtime(server) as session:
            off = {"type": "realtime", "audio": {"input": {"turn_detection": None}}}
            await session.send("session.update", session=off)
            assert (await session.once("session.updated")).session.audio.input.turn_detection is None
            await session.send("input_audio_buffer.commit", event_id="early")
            pcm = noise(2)
            for start in range(0, len(pcm) - 500, 1000):  # the last frame is not whole
                await session.send("input_audio_buffer.append", audio=pcm16(pcm[start : start + 1000]))
            await session.send("input_audio_buffer.commit")
            committed = await session.once("input_audio_buffer.committed")
            item = await session.once("conversation.item.done")
            assert (item.item.id, item.item.role) == (committed.item_id, "user")
            await session.once("response.output_audio.delta", 4)  # to silence that nobody sent
            assert session.client.lost()["silences"] == 0
            await session.send("input_audio_buffer.commit", event_id="late")
            await session.until(lambda: len(session.errors) == 2)
            assert {one.code for one in session.errors} == {"input_audio_buffer_commit_empty"}
            assert not session.of("input_audio_buffer.speech_started")

    run(go())


REFUSED = {
    "instructions": ({"instructions": "You are a pirate."}, "session.instructions"),
    "voice": ({"audio": {"output": {"voice": "alloy"}}}, "session.audio.output.voice"),
    "speed": ({"audio": {"output": {"speed": 1.5}}}, "session.audio.output.speed"),
    "tools": ({"tools": [{"type": "function", "name": "f"}]}, "session.tools"),
    "unknown": ({"colour": "red"}, "session.colour"),
    "kind": ({"type": "transcription"}, "session.type"),
    "model": ({"model": "gpt-realtime"}, "session.model"),
    "format": ({"audio": {"input": {"format": {"type": "audio/mp3"}}}}, "session.audio.input.format"),
    "rate": ({"audio": {"input": {"format": {"type": "audio/pcm", "rate": 16000}}}}, "session.audio.input.format"),
    "captions": ({"audio": {"input": {"transcription": {"model": "x"}}}}, "session.audio.input.transcription"),
    "vad": (
        {"audio": {"input": {"turn_detection": {"type": "semantic_vad"}}}},
        "session.audio.input.turn_detection",
    ),
    "alone": (
        {"audio": {"input": {"turn_detection": {"type": "server_vad", "create_response": False}}}},
        "session.audio.input.turn_detection.create_response",
    ),
    "tokens": ({"max_output_tokens": 100}, "session.max_output_tokens"),
    "no object": ({"audio": "loud"}, "session.audio"),
}


def test_what_a_session_cannot_be_is_refused_in_words_and_changes_nothing(server: Running) -> None:
    async def go() -> None:
        async with realtime(server) as session:
            for name, (settings, _) in REFUSED.items():
                # With something that could be had: all of it is done, or nothing.
                both = {"output_modalities": ["text"], **settings}
                await session.connection.send_raw(
                    json.dumps({"type": "session.update", "event_id": name, "session": both})
                )
            await session.until(lambda: len(session.errors) == len(REFUSED))
            for error, (name, (_, param)) in zip(session.errors, REFUSED.items(), strict=True):
                assert (error.event_id, error.param, error.type) == (name, param, "invalid_request_error")
                assert error.message.startswith(param) or name in ("unknown", "no object")
            await session.send("session.update", session={"type": "realtime"})
            assert (await session.once("session.updated")).session.output_modalities == ["audio"]

    run(go())


def test_events_that_mean_nothing_here_are_refused_in_words(server: Running) -> None:
    events = {
        "{": "invalid_json",
        "[]": "invalid_event",
        "[" * 5000: "invalid_json",
        '{"type": 1}': "invalid_event",
        '{"type": "input_audio_buffer.shout", "event_id": "x"}': "unknown_event",
        '{"type": "input_audio_buffer.append", "audio": "*"}': "invalid_value",
        '{"type": "input_audio_buffer.append"}': "invalid_value",
        '{"type": "session.update", "session": 1}': "invalid_value",
        '{"type": "conversation.item.create", "item": {}}': "unsupported_value",
        '{"type": "conversation.item.delete", "item_id": "x"}': "unsupported_value",
        '{"type": "response.create"}': "model_decides",
        '{"type": "response.create", "response": {}}': None,  # said once
    }

    async def go() -> None:
        async with realtime(server) as session:
            for event in events:
                await session.connection.send_raw(event)
            await session.connection.send_raw(b"\1\2")
            wanted = [code for code in events.values() if code] + ["invalid_event"]
            await session.until(lambda: len(session.errors) == len(wanted))
            assert [one.code for one in session.errors] == wanted
            assert session.errors[4].event_id == "x"
            await session.say(noise(3))
            await session.once("response.output_audio.delta")

    run(go())


def test_who_does_not_wait_for_the_session_is_heard_all_the_same(server: Running, tiny_moshi: Moshi) -> None:
    async def go() -> Session:
        async with openai(server) as api:
            query = {"text_temperature": "0", "audio_temperature": "0", "seed": "4"}
            async with api.realtime.connect(model="tiny", extra_query=query) as connection:
                for frame in noise(3).reshape(-1, 1920):
                    await connection.input_audio_buffer.append(audio=pcm16(frame))
                session = Session(connection, server)
                await session.once("response.output_audio.delta")
                assert session.types[0] == "session.created"
                return session

    session = run(go())
    (first, *_) = [reply.audio for reply in replies(tiny_moshi, heard(noise(3))) if reply.audio is not None]
    np.testing.assert_allclose(voice(session)[:1920], np.clip(first, -1, 1), atol=1 / 32768)


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ({"model": "gpt-realtime"}, 404, "model_not_found"),
        ({"call_id": "1"}, 501, None),
        ({"seed": "x"}, 400, None),
    ],
    ids=["model", "call", "query"],
)
def test_a_handshake_is_refused_in_the_form_of_the_api(
    server: Running, query: dict[str, str], status: int, code: str | None
) -> None:
    async def go() -> None:
        async with openai(server) as api, api.realtime.connect(extra_query={"model": "tiny", **query}):
            pass

    with pytest.raises(InvalidStatus) as refused:
        run(go())
    assert refused.value.response.status_code == status
    body = json.loads(refused.value.response.body or b"")
    assert body["error"]["message"]
    assert body["error"]["code"] == code


def test_the_key_is_the_servers_token(tiny_moshi: Moshi) -> None:
    running = Running(tiny_moshi, access=Access(token="secret"))

    async def go(key: str) -> str:
        async with openai(running, key) as api, api.realtime.connect(model="tiny") as connection:
            return (await connection.recv()).type

    async def page(key: str) -> str:
        async with (
            aiohttp.ClientSession() as http,
            http.ws_connect(
                f"{running.url}/v1/realtime", protocols=["realtime", f"openai-insecure-api-key.{key}"]
            ) as it,
        ):
            assert it.protocol == "realtime"
            return (await it.receive_json())["type"]

    with running:
        assert run(go("secret")) == "session.created"
        run(free(running))
        assert run(page("secret")) == "session.created"
        with pytest.raises(aiohttp.WSServerHandshakeError, match="401"):
            run(page("wrong"))
        with pytest.raises(InvalidStatus) as refused:
            run(go("wrong"))
        assert refused.value.response.status_code == 401


def test_too_much_of_anything_is_one_error_and_the_end(tiny_moshi: Moshi) -> None:
    running = Running(tiny_moshi, limits=Limits(ignored=Rate(1, 3)))

    async def go(text: str, count: int) -> tuple[list[str | None], int]:
        async with openai(running) as api, api.realtime.connect(model="tiny") as connection:
            session = Session(connection, running)
            await session.once("session.created")
            for _ in range(count):
                await connection.send_raw(text)
            with pytest.raises(Exception, match=r"100\d"):
                await session.ended()
            assert connection._connection.close_code
            return [one.code for one in session.errors], connection._connection.close_code

    with running:
        assert run(go('{"type": "shout"}', 5)) == (["unknown_event"] * 3 + ["session_ended"], 1008)
        run(free(running))
        assert run(go(" " * (256 * 1024 + 1), 1)) == (["session_ended"], 1009)
        run(free(running))


def test_who_does_not_read_loses_audio_then_the_place(tiny_moshi: Moshi) -> None:
    running = Running(tiny_moshi, limits=Limits(stuck=1.0, unsent=2))

    async def go() -> None:
        async with openai(running) as api:
            connection = await api.realtime.connect(
                model="tiny", websocket_connection_options={"max_queue": 1}
            ).enter()
            assert (await connection.recv()).type == "session.created"
            (client,) = running.server.clients
            cleared = False
            while client in running.server.clients:
                await connection.input_audio_buffer.append(audio=pcm16(noise(1)))
                if not client.socket.delivering:  # the kernel has room for megabytes
                    running.loop.call_soon_threadsafe(client.socket.post, " " * 200_000)
                await asyncio.sleep(0.02)
                assert len(client.socket.outbox) <= 250
                if client.lost()["unsent"] and not cleared:
                    assert any(one.is_audio for one in client.socket.outbox)
                    await connection.output_audio_buffer.clear()
                    while any(one.is_audio for one in client.socket.outbox):
                        await asyncio.sleep(0.005)
                    cleared = True
            assert cleared
            assert client.lost()["unsent"] > 0
            connection._connection.transport.abort()

    with running:
        run(asyncio.wait_for(go(), PATIENCE))
        run(free(running))


@pytest.fixture(scope="module")
def persona_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Moshi, Path]]:
    folder = write_persona(tmp_path_factory.mktemp("persona") / "model")
    moshi = load(folder, codec="mlx")
    running = Running(moshi, prompts=lambda moshi: Prompts(moshi, Voices(str(folder)), Role("You are kind.")))
    yield running, moshi, folder
    running.stop()


def test_a_persona_is_set_before_its_first_audio(persona_server: tuple[Running, Moshi, Path]) -> None:
    running, moshi, folder = persona_server
    role = "You are a wise teacher."
    settings = {"type": "realtime", "instructions": role, "audio": {"output": {"voice": VOICE}}}

    async def go() -> Session:
        async with realtime(running) as session:
            await session.send("session.update", session={"type": "realtime", "audio": {"output": {"voice": "x"}}})
            await session.until(lambda: session.errors)
            assert VOICE in session.errors[0].message
            await session.send(
                "session.update", session={"type": "realtime", "instructions": "many words " * 1500}
            )
            await session.until(lambda: len(session.errors) == 2)
            assert session.errors[1].param == "session.instructions"
            await session.send("session.update", session=settings)
            updated = (await session.once("session.updated")).session
            assert (updated.instructions, updated.audio.output.voice) == (role, VOICE)
            await session.say(noise(FRAMES))
            await session.once("response.output_audio.delta", 3)
            await session.send("session.update", session={**settings, "instructions": "You are kind."})
            await session.until(lambda: len(session.errors) == 3)
            assert session.errors[2].code == "too_late"
            return session

    session = run(go())
    run(free(running))
    alone = replies(moshi, heard(noise(FRAMES)), prompt=persona(moshi, role, Voices(str(folder)).read(VOICE)))
    own = replies(moshi, heard(noise(FRAMES)), prompt=persona(moshi, "You are kind."))
    said = "".join(reply.text for reply in alone)
    assert said != "".join(reply.text for reply in own)
    assert words(session)
    assert said.strip().startswith(words(session).strip())


def test_instructions_and_a_voice_choose_who_nano_persona_is() -> None:
    voices = Voices(nano.PERSONA_NAME, offline=True)
    moshi = load(nano.PERSONA_NAME, codec="mlx", offline=True)
    running = Running(moshi, prompts=lambda moshi: Prompts(moshi, voices, Role()))
    role = {"instructions": "You are Ada and you are formal.", "audio": {"output": {"voice": "male"}}}

    async def go() -> Session:
        async with realtime(running) as session:
            await session.send("session.update", session={"type": "realtime", **role})
            await session.once("session.updated")
            await session.say(
                np.concatenate([QUIET] * 6 + [read_audio(RECORDING).pcm[: 2 * 24_000]] + [QUIET] * 40)
            )
            await session.once("response.output_audio.delta", 3)
            await session.silent_until("response.done")
            return session

    with running:
        session = run(go())
    assert words(session).strip() == "The capital would be Paris."


def test_the_users_words_come_where_the_server_writes_them_down(tiny_moshi: Moshi) -> None:
    def captions() -> CaptionScheduler:
        return CaptionScheduler(load_transcriber("nano-stt", codec="mlx"), 1, "nano-stt")

    running = Running(tiny_moshi, captions=captions)
    asked = {"type": "realtime", "audio": {"input": {"transcription": {"model": "nano-stt"}}}}

    async def go() -> Session:
        async with realtime(running) as session:
            await session.send("session.update", session=asked)
            updated = (await session.once("session.updated")).session
            assert updated.audio.input.transcription.model == "nano-stt"
            await session.say(np.concatenate([QUIET, QUIET, read_audio(RECORDING).pcm[: 24 * 1920]]))
            await session.silent_until("conversation.item.input_audio_transcription.completed")
            return session

    with running:
        session = run(go())
    completed = session.of("conversation.item.input_audio_transcription.completed")[0]
    deltas = session.of("conversation.item.input_audio_transcription.delta")
    assert completed.transcript == "".join(one.delta for one in deltas if one.item_id == completed.item_id)
    assert word_errors(nano.captions()[0]["text"], completed.transcript).rate <= 0.2
    assert completed.item_id in {one.item_id for one in session.of("input_audio_buffer.committed")}
