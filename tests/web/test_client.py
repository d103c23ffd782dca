"""The client of programs, with a real server: frames and words, what the server tells, and every way to end."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from aiohttp import web

from moshi_mlx.client import AudioFrame, Message, Metadata, Talk, TextPiece, connect
from moshi_mlx.errors import ClientError, MoshiError, ProtocolError, SessionError
from moshi_mlx.runtime.moshi import Moshi
from moshi_mlx.sampling_config import GREEDY
from moshi_mlx.web.access import Access
from tests.anything import one_line
from tests.web.running import Running, free, run

pytestmark = pytest.mark.slow
GREEDILY = {"text_temperature": 0, "audio_temperature": 0}
FRAMES = 8


def spoken() -> np.ndarray:
    noise = np.random.RandomState(3).standard_normal((FRAMES, 1920))
    return (0.1 * noise).astype(np.float32)


async def answered(talk: Talk, frames: np.ndarray) -> list[Message]:
    """What comes back for frames, each sent when those before are answered: a busy machine loses none."""
    found: list[Message] = []
    sent = 0
    for _ in range(3):  # the first two have no audio
        await talk.send(frames[sent])
        sent += 1
    async for message in talk:
        found.append(message)
        if isinstance(message, AudioFrame):
            if sent == len(frames):
                return found
            await talk.send(frames[sent])
            sent += 1
    raise AssertionError("it ended early")


@pytest.mark.parametrize("audio", ["pcm", "opus"])
def test_a_program_hears_what_a_session_says(server: Running, tiny_moshi: Moshi, audio: str) -> None:
    frames = spoken()

    async def go() -> tuple[list[Message], dict[str, Any]]:
        async with connect(server.url, audio=audio, seed=4, query=GREEDILY) as talk:
            return await answered(talk, frames), talk.about

    found, about = run(go())
    voice = [message.pcm for message in found if isinstance(message, AudioFrame)]
    assert {pcm.shape for pcm in voice} == {(1920,)}
    if audio == "opus":
        assert not about
        assert max(np.abs(pcm).max() for pcm in voice) > 0.01
        return
    assert (about["model"], about["seed"]) == ("tiny", 4)
    with tiny_moshi.session(seed=4, sampling=GREEDY) as session:
        replies = [session.step(frame) for frame in frames]
    expected = [reply.audio for reply in replies if reply.audio is not None]
    for mine, theirs in zip(voice, expected, strict=False):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)
    words = "".join(message.text for message in found if isinstance(message, TextPiece))
    assert words
    assert "".join(reply.text for reply in replies).startswith(words)


def test_any_number_of_samples_is_sent(server: Running) -> None:
    async def go() -> None:
        async with connect(server.url) as talk:
            whole = np.zeros(40_000, np.float32)  # more than a message holds
            await talk.send(whole)
            await talk.send(whole[:7])
            async for message in talk:
                if isinstance(message, AudioFrame):
                    break
            with pytest.raises(SessionError, match="samples"):
                await talk.send(np.zeros((2, 1920), np.float32))

    run(go())


def test_closing_ends_the_iteration_and_frees_the_place(server: Running) -> None:
    async def go() -> None:
        async with connect(server.url) as talk:
            reading = asyncio.create_task(read(talk))
            await talk.say(spoken().reshape(-1))
            await talk.close()
            await reading
            with pytest.raises(ClientError, match="has ended"):
                await talk.send(spoken()[0])
        await free(server)

    async def read(talk: Talk) -> list[Message]:
        return [message async for message in talk]

    run(go())


def test_a_new_conversation_begins_on_the_same_connection(server: Running) -> None:
    async def go() -> None:
        async with connect(server.url) as talk:
            await talk.restart()
            async for message in talk:
                if message == Metadata({"type": "reset"}):
                    return
            raise AssertionError("it was not told")

    run(go())


def test_who_waits_is_told_so(server: Running) -> None:
    async def go() -> None:
        told: list[dict[str, Any]] = []
        async with connect(server.url) as first:

            async def second() -> None:
                async with connect(server.url, waiting=told.append):
                    pass

            waiting = asyncio.create_task(second())
            while not told:
                await asyncio.sleep(0.01)
            await first.close()
            await waiting
        assert told[0] == {"type": "state", "state": "queued", "position": 1}

    run(go())


async def everything(url: str, **how: Any) -> list[Message]:
    async with connect(url, **how) as talk:
        return [message async for message in talk]


def refused(url: str, kind: type[MoshiError] = ClientError, **how: Any) -> str:
    with pytest.raises(kind) as caught:
        run(everything(url, **how))
    one_line(caught.value)
    return str(caught.value)


def test_a_server_that_refuses_is_quoted(tiny_moshi: Moshi) -> None:
    with Running(tiny_moshi, access=Access(token="secret")) as running:
        assert "401 this server asks for its token" in refused(running.url)
        assert "secreto" not in refused(running.url, token="secreto")

        async def go() -> None:
            async with connect(f"{running.url}/?token=secret"):  # as the server prints it
                pass
            async with connect(running.url, token="secret"):
                pass

        run(go())
        assert "400 seed='x'" in refused(running.url, token="secret", query={"seed": "x"})


@pytest.mark.parametrize("url", ["", "ftp://here", "http://", "http://[1"])
def test_what_is_no_address_is_refused(url: str) -> None:
    assert "no address of a server" in refused(url)


def test_a_server_that_is_not_there_is_named(unused_tcp_port: int) -> None:
    assert "is the server running?" in refused(f"ws://localhost:{unused_tcp_port}")


@pytest.fixture
def unused_tcp_port() -> Iterator[int]:
    """A port at which nobody listens, and that nobody else gets meanwhile."""
    with socket.socket() as one:
        one.bind(("localhost", 0))
        yield one.getsockname()[1]


def test_unknown_audio_is_refused() -> None:
    assert "use opus or pcm" in refused("ws://localhost", audio="mp3")


@asynccontextmanager
async def saying(said: list[bytes | str], code: int | None) -> AsyncIterator[str]:
    """The address of a server that says this and closes; without a code it breaks the connection."""

    async def answer(request: web.Request) -> web.WebSocketResponse:
        client = web.WebSocketResponse()
        await client.prepare(request)
        for one in said:
            await (client.send_bytes(one) if isinstance(one, bytes) else client.send_str(one))
        if code is None:
            assert request.transport
            request.transport.abort()
        else:
            await client.close(code=code)
        return client

    app = web.Application()
    app.router.add_get("/api/chat", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "localhost", 0).start()
    try:
        yield f"localhost:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def test_a_voice_in_any_pieces_comes_in_frames() -> None:
    voice = np.linspace(-1, 1, 2 * 1920 + 100).astype(np.float32)
    pieces = [b"\1" + voice[start : start + 1000].tobytes() for start in range(0, len(voice), 1000)]

    async def go() -> list[Message]:
        async with saying([b"\0", *pieces, b"\2 Hi"], 1000) as address:
            return await everything(address)

    first, second, last = run(go())
    assert isinstance(first, AudioFrame)
    assert isinstance(second, AudioFrame)
    np.testing.assert_array_equal(np.concatenate([first.pcm, second.pcm]), voice[: 2 * 1920])
    assert last == TextPiece(" Hi")


@pytest.mark.parametrize(
    ("said", "code", "kind", "told"),
    [
        ([b"\0", b"\5the model is lost"], 1011, ClientError, "ended the conversation: the model is lost"),
        ([b"\0"], 1001, ClientError, "ended the conversation: 1001"),
        ([], 1000, ClientError, "before it began"),
        ([b"\0", b"\4{"], 1000, ProtocolError, "no JSON"),
        (["words"], 1000, ProtocolError, "does not speak Kyutai's protocol"),
        ([b"\0"], None, ClientError, "broke"),
    ],
    ids=["error", "code", "early", "metadata", "text", "broken"],
)
def test_every_bad_end_is_one_line(
    said: list[bytes | str], code: int | None, kind: type[MoshiError], told: str
) -> None:
    async def go() -> None:
        async with saying(said, code) as address:
            await everything(address)

    with pytest.raises(kind) as caught:
        run(go())
    one_line(caught.value)
    assert told in str(caught.value)
