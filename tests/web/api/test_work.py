"""What requests may take of a server: slices, places, bytes, seconds; and what becomes of those who leave."""

from __future__ import annotations

import asyncio
import io
import socket
from collections.abc import Awaitable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest

import moshi_mlx.web.api.speech as speech
from moshi_mlx.runtime.moshi import Moshi
from moshi_mlx.tasks.say import say
from moshi_mlx.tasks.transcribe import Transcriber
from moshi_mlx.tasks.utterance import Spoken
from moshi_mlx.web.model_pool import ModelPool
from tests.web.api.conftest import found, noise, until, wav
from tests.web.running import Running, run, talking

pytestmark = pytest.mark.slow

SAID = {"model": "tts", "voice": "a", "input": "Good morning.", "response_format": "pcm"}


class Endless:
    """Speech that goes on until it is closed, a slice at a time; so many slices were made."""

    def __init__(self) -> None:
        self.made = self.closed = 0

    def __call__(self, *asked: Any) -> Iterator[Spoken]:
        try:
            while True:
                self.made += 1
                yield Spoken(np.zeros(1920, np.float32), [])
        finally:
            self.closed += 1


@pytest.fixture
def endless(monkeypatch: pytest.MonkeyPatch) -> Endless:
    made = Endless()
    monkeypatch.setattr(speech, "say", made)
    return made


async def posted(server: Running, path: str, **how: Any) -> tuple[int, dict[str, Any]]:
    async with aiohttp.ClientSession(server.url) as session, session.post(path, **how) as answer:
        return answer.status, await answer.json()


def form(**fields: Any) -> aiohttp.FormData:
    made = aiohttp.FormData(default_to_multipart=True)
    for name, value in fields.items():
        if isinstance(value, bytes):
            made.add_field(name, io.BytesIO(value), filename="talk.wav")
        else:
            made.add_field(name, value)
    return made


def test_who_leaves_costs_no_more_slices(api_server: Running, endless: Endless) -> None:
    """What is counted on the model's thread stands still once the connection has gone."""

    async def go() -> None:
        async with aiohttp.ClientSession(api_server.url) as session:
            answer = await session.post("/v1/audio/speech", json=SAID)
            await answer.content.readexactly(3840)
            answer.close()
        await until(lambda: endless.closed)
        made = endless.made
        assert await asyncio.to_thread(jobs_done, api_server) == 0
        assert endless.made == made

    run(go())


def jobs_done(server: Running) -> int:
    """Wait for all that was to be done; how many jobs are left."""
    jobs = server.server.jobs

    async def go() -> int:
        await until(lambda: not jobs.waiting)
        return jobs.count

    return server.call(go())


def test_a_request_without_a_stream_is_left_too(api_server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Endless()
    monkeypatch.setattr(Transcriber, "steps", lambda self, source: ([] for _ in made()))

    async def go() -> None:
        async with aiohttp.ClientSession(api_server.url) as session:
            post = session.post("/v1/audio/transcriptions", data=form(file=wav(noise(0.5)), model="stt"))
            task = asyncio.ensure_future(post)
            await until(lambda: made.made > 3)
            task.cancel()
        await until(lambda: api_server.server.jobs.count == 0)
        steps = made.made
        await until(lambda: not api_server.server.jobs.waiting)
        assert made.made == steps

    run(go())


def test_what_the_end_of_the_server_cuts_off_is_no_answer(
    tiny_moshi: Moshi, stt_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Endless()
    monkeypatch.setattr(Transcriber, "steps", lambda self, source: ([] for _ in made()))
    running = Running(tiny_moshi, pool=ModelPool([found(stt_folder, "stt")]))

    async def go() -> None:
        async with aiohttp.ClientSession(running.url) as session:
            post = session.post("/v1/audio/transcriptions", data=form(file=wav(noise(0.5)), model="stt"))
            task = asyncio.ensure_future(post)
            await until(lambda: made.made > 3)
            await asyncio.to_thread(running.stop)
            with suppress(aiohttp.ClientError):  # it was cut off before
                assert (await task).status == 503

    run(go())
    assert made.closed == 1


def test_a_slow_reader_pauses_and_the_others_are_served(api_server: Running, endless: Endless) -> None:
    async def go() -> None:
        host, port = "127.0.0.1", api_server.port
        body = str(SAID).replace("'", '"').encode()
        head = f"POST /v1/audio/speech HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        with socket.create_connection((host, port)) as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.sendall(head + body)
            await until(lambda: endless.made > 250)
            made = [-1, 0]
            while made[-1] != made[-2]:  # until the buffers of the connection are full
                assert len(made) < 50, made
                made.append(endless.made)
                fields = form(file=wav(noise(0.5)), model="stt")
                assert (await posted(api_server, "/v1/audio/transcriptions", data=fields))[0] == 200
        await until(lambda: endless.closed)

    run(go())


def test_too_many_requests_are_refused_and_told_when_to_come_again(api_server: Running, endless: Endless) -> None:
    async def go() -> None:
        async with aiohttp.ClientSession(api_server.url) as session:
            held = [await session.post("/v1/audio/speech", json=SAID) for _ in range(2)]  # half of four
            async with session.post("/v1/audio/speech", json=SAID) as answer:
                assert answer.status == 429
                assert int(answer.headers["Retry-After"]) > 0
                error = (await answer.json())["error"]
                assert (error["type"], error["code"]) == ("rate_limit_error", "busy")
            async with session.get("/metrics") as answer:
                assert "\nmoshi_jobs 2\n" in await answer.text()
            for one in held:
                one.close()
        await until(lambda: endless.closed == 2)

    run(go())


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({"model": "stt"}, 400, "no file"),
        ({"file": b"x" * 33_000_000, "model": "stt"}, 413, "25 MB"),
        ({"file": wav(noise(0.5)), "model": "m" * 70_000}, 413, "more than"),
        ({"file": wav(noise(0.5)), "model": "nothing"}, 404, "no model"),
    ],
    ids=["no file", "too large", "long field", "no model"],
)
def test_forms_are_bounded(api_server: Running, fields: dict[str, Any], status: int, words: str) -> None:
    found, body = run(posted(api_server, "/v1/audio/transcriptions", data=form(**fields)))
    assert (found, words in body["error"]["message"]) == (status, True), body


def test_an_upload_that_is_broken_off_leaves_nothing(api_server: Running) -> None:
    head = "POST /v1/audio/transcriptions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n"
    part = "--x\r\nContent-Disposition: form-data; name=file; filename=a.wav\r\n\r\nRIFF"

    async def go() -> None:
        uploads = api_server.server.api.uploads
        with socket.create_connection(("127.0.0.1", api_server.port)) as leaves:
            leaves.sendall(f"{head}Content-Type: multipart/form-data; boundary=x\r\n\r\n{part}".encode())
            await until(lambda: uploads.coming == 1)
        await until(lambda: uploads.coming == 0)

    run(go())


def test_what_is_no_form_is_refused(api_server: Running) -> None:
    async def go() -> list[int]:
        path = "/v1/audio/transcriptions"
        cut = {"Content-Type": "multipart/form-data; boundary=x"}
        answers: list[Awaitable[tuple[int, Any]]] = [
            posted(api_server, path, json={"model": "stt"}),
            posted(api_server, path, data=b"--x\r\nContent-Disposition: form-data; name=f", headers=cut),
            posted(api_server, path, data=b"", headers={"Content-Type": "multipart/form-data"}),
        ]
        return [(await answer)[0] for answer in answers]

    assert run(go()) == [415, 400, 400]


def test_speech_is_made_while_somebody_talks(api_server: Running, tts_folder: Any) -> None:
    """Both get what they would get alone."""
    expected = run(posted_pcm(api_server))

    async def go() -> bytes:
        async with talking(api_server.url, "audio=pcm&seed=1&audio_temperature=0&text_temperature=0") as talk:
            await talk.begun()
            task = asyncio.ensure_future(posted_pcm(api_server))
            await talk.converse(noise(1.2), task.done)
            assert len(talk.audio) >= 8
            return await task

    assert len(run(go())) == len(expected) > 0


async def posted_pcm(server: Running) -> bytes:
    async with aiohttp.ClientSession(server.url) as session, session.post("/v1/audio/speech", json=SAID) as answer:
        assert answer.status == 200
        return await answer.read()


@pytest.fixture(autouse=True)
def _seeded(request: pytest.FixtureRequest) -> Iterator[None]:
    """Requests draw by chance; here they all draw alike."""
    if "endless" in request.fixturenames:
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speech, "say", lambda *asked: say(*asked, seed=7))
        yield
