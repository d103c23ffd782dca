"""Clients that behave badly: whatever they send and however they go, the next one is served and nothing grows."""

from __future__ import annotations

import asyncio
import gc
import random
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress

import aiohttp
import numpy as np
import pytest
import sphn

from moshi_mlx.runtime.moshi import Moshi
from moshi_mlx.web.limits import Limits, Rate
from moshi_mlx.wire.ogg import HEADER, MAGIC, make_page
from tests.web.running import Running, free, run, talking

pytestmark = pytest.mark.slow

MESSAGES = 20_000


def junk(chance: random.Random, pages: list[bytes]) -> bytes:
    """A message of any kind: noise, half pages, damaged pages, controls, sounds that are no numbers."""
    how = chance.randrange(8)
    if how == 0:
        return chance.randbytes(chance.choice([0, 1, 2, 27, 200, 2000]))
    if how == 1:
        return bytes([chance.randrange(256)]) + chance.randbytes(chance.randrange(60))
    if how == 2:
        return b"\1" + chance.choice(pages)[: chance.randrange(200)]
    if how == 3:
        page = bytearray(chance.choice(pages))
        for _ in range(chance.randint(1, 5)):
            page[chance.randrange(len(page))] = chance.randrange(256)
        return b"\1" + bytes(page)
    if how == 4:
        return b"\3" + bytes([chance.choice([0, 1, 2, 3, 3, 3, 200])])
    if how == 5:
        return b"\1OggS" + chance.randbytes(chance.randrange(300))
    if how == 6:
        return b"\1" + struct.pack("<8f", *[chance.choice([float("nan"), float("inf"), -1e38, 0.1])] * 8)
    return b"\1" + chance.randbytes(chance.randrange(64))


@pytest.fixture(scope="module")
def patient(tiny_moshi: Moshi) -> Iterator[Running]:
    """A server that lets clients come again, however many they are and however often they were thrown out."""
    many = Rate(10_000, 10_000)
    running = Running(tiny_moshi, limits=Limits(offences=many, coming=many, requests=many))
    yield running
    running.stop()


@pytest.mark.parametrize("query", ["", "audio=pcm"])
def test_any_bytes_do_no_harm(patient: Running, query: str) -> None:
    """Half of all messages go each way of sending audio."""
    server = patient
    chance = random.Random(len(query))
    writer = sphn.OpusStreamWriter(24_000)
    pages = [writer.append_pcm(np.zeros(1920, np.float32)) for _ in range(10)]
    sent = 0

    async def go() -> None:
        nonlocal sent
        while sent < MESSAGES // 2:
            async with talking(server.url, query) as talk:
                await talk.begun()
                for _ in range(500):
                    if talk.closed:
                        break
                    sent += 1
                    with suppress(ConnectionError):
                        await talk.socket.send_bytes(junk(chance, pages))
                    if sent % 50 == 0:
                        await asyncio.sleep(0)
        async with talking(server.url) as talk:
            await talk.begun()
            await talk.speak_until(lambda: len(talk.audio) >= 3)

    run(go())
    run(free(server))
    assert server.server.model.working


def test_wild_clients_leave_no_place_taken_and_no_memory_behind(patient: Running) -> None:
    """Connections that break off at every stage, many a second."""
    chance = random.Random(3)

    async def wild() -> None:
        reader, writer = await asyncio.open_connection("localhost", patient.port)
        stage = chance.randrange(5)
        if stage > 0:
            writer.write(b"GET /api/chat?audio=pcm HTTP/1.1\r\nHost: localhost\r\n")
        if stage > 1:
            writer.write(
                b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            )
            await reader.readline()
        if stage > 2:
            writer.write(chance.randbytes(chance.randrange(500)))  # no frames of a web socket
            await writer.drain()
        if stage > 3:
            await asyncio.sleep(0.05)
        if chance.random() < 0.5:  # as a machine that loses its power: a reset, no farewell
            raw = writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.close()

    async def storm(count: int) -> None:
        tasks = []
        for _ in range(count):
            tasks.append(asyncio.create_task(wild()))
            await asyncio.sleep(0.005)
        await asyncio.gather(*tasks, return_exceptions=True)

    async def clean() -> None:
        async with talking(patient.url) as talk:
            await talk.begun()

    async def left() -> None:
        await free(patient)
        connections = patient.server._connections
        assert connections
        while connections.open:  # those that have no place, too
            await asyncio.sleep(0.02)

    run(storm(50))
    run(left())
    gc.collect()
    before = len(gc.get_objects())
    run(storm(100))
    run(left())
    assert not patient.server.clients
    assert not patient.server.model.scheduler.slots
    gc.collect()
    assert len(gc.get_objects()) - before < 2000, "less than 20 things a client"
    run(clean())


def test_who_speaks_no_http_is_worth_no_traceback(server: Running, caplog: pytest.LogCaptureFixture) -> None:
    async def go() -> None:
        for nonsense in (
            b"\x16\x03\x01\x02\x00 hello\r\n\r\n",
            b"GET / HTTP/9.9\r\n\r\n",
            b"GET /\xff\x00 HTTP/1.1\r\n\r\n",
        ):
            reader, writer = await asyncio.open_connection("localhost", server.port)
            writer.write(nonsense)
            assert (await reader.readline()).startswith(b"HTTP/1.0 400")
            writer.close()

    run(go())
    assert [record for record in caplog.records if record.levelno > 20] == []


def test_who_does_not_read_is_left_and_holds_no_memory(tiny_moshi: Moshi) -> None:
    running = Running(tiny_moshi, limits=Limits(stuck=1.0, ping=0.4, unsent=3))

    async def go() -> None:
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"{running.url}/api/chat?audio=pcm") as slow,
        ):
            connection = slow._response.connection
            assert connection
            assert connection.transport
            connection.transport.pause_reading()
            (client,) = await one_client(running)
            while client in running.server.clients:
                await slow.send_bytes(b"\1" + bytes(4 * 480))
                await asyncio.sleep(0.02)
                assert len(client.socket.outbox) <= 250
                for _ in range(10):  # the kernel has room for megabytes, which take a minute of speech to fill
                    if not client.socket.delivering:
                        running.loop.call_soon_threadsafe(client.socket.post, b"\2" + bytes(60_000))
            assert client.lost()["unsent"] > 0
            connection.transport.abort()  # else its own farewell would be waited for

    async def one_client(running: Running) -> list:
        while not (clients := list(running.server.clients)) or not clients[0].talking:
            await asyncio.sleep(0.05)
        return clients

    with running:
        run(asyncio.wait_for(go(), 60))
        run(free(running))


def test_a_client_that_vanished_without_a_word_is_noticed(tiny_moshi: Moshi) -> None:
    """A half-open socket: no data, no answer to pings, no end either."""
    running = Running(tiny_moshi, limits=Limits(heartbeat=1.0))

    async def go() -> None:
        async with aiohttp.ClientSession() as session:
            vanished = await session.ws_connect(f"{running.url}/api/chat", autoping=False)
            assert (await vanished.receive()).data == b"\0"
            while running.server.clients:
                await asyncio.sleep(0.02)
            async with talking(running.url, "") as second:
                await second.begun()
            await vanished.close()

    with running:
        run(asyncio.wait_for(go(), 60))


BEGINNINGS = HEADER.pack(MAGIC, 0, 0, 0, 1, 1, 0, 255) * 2300  # of pages that never were
TINY = b"".join(make_page(b"", sequence) for sequence in range(2300))
FLOODS = {
    "beginnings of pages": ("", b"\1" + BEGINNINGS[:65_000], 2, "pages and packets a second"),
    "tiny pages": ("", b"\1" + TINY[:65_000], 3, "pages and packets a second"),
    "resets": ("audio=pcm", b"\3\3", 6, "new conversations a second"),
    "kinds that mean nothing": ("audio=pcm", b"\x63junk", 301, "neither audio nor a control"),
    "empty messages": ("audio=pcm", b"", 301, "neither audio nor a control"),
    "empty audio": ("audio=pcm", b"\1", 2001, "messages a second"),
    "bytes": ("audio=pcm", b"\x63" + bytes(65_000), 62, "bytes a second"),
}


@pytest.mark.parametrize("name", FLOODS)
def test_who_sends_what_yields_nothing_is_told_so_and_thrown_out(patient: Running, name: str) -> None:
    """The floods here are just above the limits, which are those of a real server."""
    query, message, count, words = FLOODS[name]

    async def go() -> None:
        async with talking(patient.url, query) as talk:
            await talk.begun()
            if not query:  # else these are no Ogg at all
                await talk.socket.send_bytes(b"\1" + make_page(b"OpusHead", 0))
            with suppress(ConnectionError):
                for _ in range(2 * count):
                    await talk.socket.send_bytes(message)
            await talk.end()
            assert len(talk.errors) == 1
            assert words in talk.errors[0]
            assert talk.socket.close_code == 1008
        async with talking(patient.url) as talk:
            await talk.begun()
            await talk.speak_until(lambda: len(talk.audio) >= 3)

    run(go())
    run(free(patient))


def test_pings_are_answered_and_paid_for(patient: Running) -> None:
    async def go() -> None:
        async with aiohttp.ClientSession() as session:
            socket = await session.ws_connect(f"{patient.url}/api/chat", autoping=False)
            assert (await socket.receive()).data == b"\0"
            await socket.ping(b"there?")
            while (answer := await socket.receive()).type is not aiohttp.WSMsgType.PONG:
                pass
            assert answer.data == b"there?"
            with suppress(ConnectionError):
                for _ in range(5000):
                    await socket.ping()
            said = []
            while not socket.closed:
                message = await socket.receive()
                said += [message.data] if message.type is aiohttp.WSMsgType.BINARY else []
            assert b"messages a second" in said[-1]

    run(asyncio.wait_for(go(), 60))
    run(free(patient))


def test_what_a_stalled_network_brings_at_once_is_no_offence(patient: Running) -> None:
    """Ten seconds of messages of 20 ms, as Opus and as samples."""
    writer = sphn.OpusStreamWriter(24_000)
    pages = [writer.append_pcm(np.zeros(480, np.float32)) for _ in range(500)]
    samples = np.zeros(480, "<f4").tobytes()

    async def go() -> None:
        for query, payloads in (("", pages), ("audio=pcm", [samples] * 500)):
            async with talking(patient.url, query) as talk:
                await talk.begun()
                for payload in payloads:
                    await talk.socket.send_bytes(b"\1" + payload)
                heard = len(talk.of_kind(1))
                await talk.until(lambda talk=talk, heard=heard: len(talk.of_kind(1)) >= heard + 10 or talk.errors)
                assert not talk.errors
            await free(patient)

    run(go())


def test_an_address_that_offends_again_and_again_has_to_pause(tiny_moshi: Moshi) -> None:
    running = Running(tiny_moshi, limits=Limits(offences=Rate(0.001, 2), ignored=Rate(0.001, 1)))

    async def offend() -> None:
        async with talking(running.url) as talk:
            await talk.begun()
            await talk.socket.send_bytes(b"\x63")
            await talk.socket.send_bytes(b"\x63")
            await talk.end()
            assert talk.errors

    async def go() -> None:
        await offend()
        await free(running)
        await offend()
        await free(running)
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await offend()
        assert caught.value.status == 429

    with running:
        run(go())


def test_the_honest_get_the_tokens_they_get_alone_whatever_others_send(tiny_moshi: Moshi) -> None:
    """One frame after the other is answered, while somebody in the next place does everything above."""
    many = Rate(10_000, 10_000)
    running = Running(tiny_moshi, max_sessions=2, limits=Limits(offences=many, coming=many, requests=many))
    query = "audio=pcm&seed=3&text_temperature=0&audio_temperature=0"
    speech = np.random.default_rng(0).standard_normal((24, 1920)).astype(np.float32) * 0.1

    async def attack() -> None:
        for flooding, message, count, _ in FLOODS.values():
            async with talking(running.url, flooding) as talk:
                await talk.begun()
                if not flooding:
                    await talk.socket.send_bytes(b"\1" + make_page(b"OpusHead", 0))
                with suppress(ConnectionError):
                    for _ in range(2 * count):
                        await talk.socket.send_bytes(message)
                await talk.end()

    async def go(attacked: bool) -> list[np.ndarray]:
        async with talking(running.url, query) as talk:
            await talk.begun()
            attacking = asyncio.create_task(attack() if attacked else asyncio.sleep(0))
            await talk.converse(speech.ravel(), lambda: attacking.done() and len(talk.audio) >= len(speech))
            await attacking
            assert not talk.errors
            return talk.audio

    with running:
        alone, beside = run(go(False)), run(go(True))
    count = min(len(alone), len(beside))
    assert count >= len(speech)
    assert np.array_equal(alone[:count], beside[:count])
