"""Connections that ask for nothing, too many of them, and descriptors that run out: others are served."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
import threading
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest

from moshi_mlx.runtime.moshi import Moshi
from moshi_mlx.web.certificate import own_tls
from moshi_mlx.web.connections import Connections, Link, source_of
from moshi_mlx.web.descriptors import limit, raise_limit
from moshi_mlx.web.limits import Limits, Rate
from tests.web.running import PATIENCE, Running, free, run, talking

MANY = Rate(10_000, 10_000)
UPGRADE = (
    b"GET /api/chat?audio=pcm HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


async def health(running: Running) -> int:
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False)) as session,
        session.get(f"{running.url}/health") as answer,
    ):
        return answer.status


async def ended(reader: asyncio.StreamReader) -> bytes:
    """All that a connection still brings, when the server has ended it."""
    found = b""
    with suppress(ConnectionError):
        while more := await asyncio.wait_for(reader.read(10_000), PATIENCE):
            found += more
    return found


async def closed(writers: list[asyncio.StreamWriter]) -> None:
    """Close connections and wait for it, whatever has become of them: open ones are an error of later tests."""
    for writer in writers:
        writer.close()
    await asyncio.gather(*(writer.wait_closed() for writer in writers), return_exceptions=True)


def connections(running: Running) -> int:
    assert running.server._connections
    return running.server._connections.open


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: localhost\r\nX: "])
def test_who_never_asks_is_left(tiny_moshi: Moshi, sent: bytes) -> None:
    running = Running(tiny_moshi, limits=Limits(first_request=0.3))

    async def go() -> None:
        reader, writer = await asyncio.open_connection("localhost", running.port)
        writer.write(sent)
        assert await ended(reader) == b""
        await closed([writer])

    with running:
        run(go())


def test_a_conversation_is_no_request_that_takes_too_long(tiny_moshi: Moshi) -> None:
    running = Running(tiny_moshi, limits=Limits(first_request=2.0))

    async def go() -> None:
        async with talking(running.url) as talk:
            await talk.begun()
            await asyncio.sleep(2.2)
            assert not talk.closed

    with running:
        run(go())
        run(free(running))


def test_a_connection_is_kept_for_the_next_request_and_no_longer(tiny_moshi: Moshi) -> None:
    running = Running(tiny_moshi, limits=Limits(next_request=2.0))

    async def go() -> None:
        reader, writer = await asyncio.open_connection("localhost", running.port)
        for path in (b"/api/info", b"/metrics"):
            writer.write(b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await reader.readline()) == b"HTTP/1.1 200 OK\r\n"
            length = 0
            while (line := await reader.readline()) != b"\r\n":
                name, _, value = line.partition(b": ")
                length = int(value) if name == b"Content-Length" else length
            await reader.readexactly(length)
        writer.write(b"GET /api/in")
        assert await ended(reader) == b""
        await closed([writer])

    with running:
        run(go())


def test_a_handshake_that_stays_half_is_left(tiny_moshi: Moshi, tmp_path: Path) -> None:
    tls = own_tls(["localhost"], tmp_path)
    running = Running(tiny_moshi, tls=tls, limits=Limits(first_request=1.5, coming=MANY))

    async def go() -> None:
        silent = [await asyncio.open_connection("localhost", running.port) for _ in range(2)]
        silent[0][1].write(b"\x16\x03\x01\x02\x00\x01")  # the beginning of one
        reader, writer = await asyncio.open_connection("localhost", running.port)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")  # none at all
        await ended(reader)
        await closed([writer])
        for reader, writer in silent:
            assert await ended(reader) == b""
            await closed([writer])
        assert await health(running) in (200, 503)
        context = ssl.create_default_context(cafile=str(tmp_path / "certificate.pem"))
        reader, writer = await asyncio.open_connection("localhost", running.port, ssl=context)
        assert await ended(reader) == b"", "a handshake is no request"
        await closed([writer])
        while connections(running):
            await asyncio.sleep(0.02)

    with running:
        run(asyncio.wait_for(go(), PATIENCE))


def test_idle_connections_give_way_to_those_who_come(tiny_moshi: Moshi) -> None:
    """Far more of them than there may be; a conversation is not idle."""
    running = Running(tiny_moshi, limits=Limits(connections=20, coming=MANY))

    async def go() -> None:
        async with talking(running.url) as talk:
            await talk.begun()
            idle = [await asyncio.open_connection("localhost", running.port) for _ in range(100)]
            assert await health(running) == 503, "it is full, and answers"
            await talk.speak_until(lambda: len(talk.audio) >= 3)
            assert connections(running) <= 20
            await closed([writer for _, writer in idle])

    with running:
        run(go())
        run(free(running))


def test_who_is_ended_before_anything_was_done_for_it_holds_no_descriptor() -> None:
    async def go() -> None:
        ours, theirs = socket.socketpair()
        link = Link(asyncio.Protocol(), Connections(asyncio.Protocol, Limits()), Limits(), "")
        link.begin(ours, None)
        link.abort()
        for _ in range(3):
            await asyncio.sleep(0)
        assert ours.fileno() == -1
        theirs.close()

    run(go())


def test_where_nobody_is_idle_no_more_may_come(tiny_moshi: Moshi, caplog: pytest.LogCaptureFixture) -> None:
    """One line a minute says so, however many there are."""
    running = Running(tiny_moshi, limits=Limits(connections=8, coming=MANY, heartbeat=600.0))

    async def go() -> None:
        talks = []
        for _ in range(6):  # of one address there may be three quarters
            reader, writer = await asyncio.open_connection("localhost", running.port)
            writer.write(UPGRADE)
            assert b"101" in await reader.readline()
            talks.append(writer)
        for _ in range(30):
            reader, writer = await asyncio.open_connection("localhost", running.port)
            assert await ended(reader) == b""
            await closed([writer])
        await closed(talks)

    with running:
        with caplog.at_level(logging.WARNING, "moshi_mlx.web"):
            run(go())
            run(free(running))
        lines = [one.getMessage() for one in caplog.records]
        assert len(lines) == 1
        assert lines[0].startswith("crowded remote=")
        assert 'why="too many connections"' in lines[0]


def test_three_thousand_while_it_loads_keep_to_the_end_of_the_line(tiny_moshi: Moshi) -> None:
    may_load = threading.Event()

    def load(progress) -> Moshi:
        may_load.wait(10 * PATIENCE)
        return tiny_moshi

    # Nobody here answers a ping, however long it takes.
    running = Running(load, limits=Limits(coming=MANY, requests=MANY, heartbeat=600.0))

    async def ask() -> bytes:
        try:
            reader, writer = await asyncio.open_connection("localhost", running.port)
        except ConnectionError:
            return b""
        try:
            writer.write(UPGRADE)
            answer = (await reader.readline())[9:12]
        except ConnectionError:
            answer = b""
        if answer == b"101":
            writers.append(writer)
        else:
            await closed([writer])  # this process may not have thousands of them
        return answer

    async def go() -> None:
        answers = []
        for _ in range(30):
            answers += await asyncio.gather(*(ask() for _ in range(100)))
        assert answers.count(b"101") == 64
        assert answers.count(b"503") > 2000
        assert running.server._admission.waiting == 64
        await closed(writers)

    writers: list[asyncio.StreamWriter] = []
    try:
        run(go())
        may_load.set()
        run(free(running))
    finally:
        may_load.set()
        running.stop()


def test_out_of_descriptors_is_one_line_and_a_pause(
    tiny_moshi: Moshi, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As often as the socket is tried there is none; then there are some again."""
    tries = [0]

    class Exhausted(socket.socket):
        def accept(self):
            tries[0] += 1
            if tries[0] <= 2:
                raise OSError(errno.EMFILE, "Too many open files")
            return super().accept()

    monkeypatch.setattr("moshi_mlx.web.connections._PAUSE", 0.2)
    monkeypatch.setattr("moshi_mlx.web.connections.socket.socket", Exhausted)
    with Running(tiny_moshi) as running:
        with caplog.at_level(logging.WARNING, "moshi_mlx.web"):
            assert run(asyncio.wait_for(health(running), PATIENCE)) in (200, 503)
        assert 3 <= tries[0] <= 5
        assert [one.getMessage() for one in caplog.records] == [
            'no_connections error="Too many open files" open=0'
        ]


def test_a_port_that_is_free_at_one_address_alone_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    binds = []

    class Taken(socket.socket):
        def bind(self, address) -> None:
            binds.append(address[1])
            if len(binds) == 2:
                raise OSError(errno.EADDRINUSE, "Address already in use")
            super().bind(address)

    async def both(*_: object, **__: object) -> list[tuple]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (f"127.0.0.{number}", 0)) for number in (1, 2)]

    async def go() -> int:
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", both)
        connections = Connections(asyncio.Protocol, Limits())
        port = await connections.listen("localhost", 0)
        connections.close()
        return port

    monkeypatch.setattr("moshi_mlx.web.connections.socket.socket", Taken)
    port = run(go())
    assert (binds[0], binds[2:]) == (0, [0, port])
    assert binds[1] != 0, "the same for all"


def test_requests_of_one_address_have_a_rate(tiny_moshi: Moshi) -> None:
    running = Running(tiny_moshi, limits=Limits(requests=Rate(0.001, 3)))

    async def go() -> None:
        async with aiohttp.ClientSession() as session:
            found = []
            for _ in range(4):
                async with session.get(f"{running.url}/api/info") as answer:
                    found.append((answer.status, answer.headers.get("Connection")))
            assert found == [*[(200, None)] * 3, (429, "close")]

    with running:
        run(go())


def test_a_stream_of_nothing_is_ended(tiny_moshi: Moshi) -> None:
    """Frames of a web socket that never become a message."""
    running = Running(tiny_moshi, limits=Limits(stream=Rate(1000, 200_000)))

    async def go() -> None:
        reader, writer = await asyncio.open_connection("localhost", running.port)
        writer.write(UPGRADE)
        while await reader.readline() != b"\r\n":
            pass
        writer.write(b"\x02\x80\0\0\0\0")  # a message begins
        said = asyncio.create_task(ended(reader))
        for _ in range(60):
            if writer.is_closing():
                break
            writer.write(b"\x00\x80\0\0\0\0" * 1000)  # and goes on with nothing
            await asyncio.sleep(0.01)
        assert b"\x05more than 1000 bytes a second came" in await said
        await closed([writer])

    with running:
        run(asyncio.wait_for(go(), PATIENCE))
        run(free(running))


def test_the_limit_of_descriptors_is_raised_as_far_as_it_goes() -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 200), hard))
        assert limit() == min(soft, 200)
        assert raise_limit() == limit() == hard
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_macos_refuses_more_than_ten_thousand(monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    asked: list[tuple[int, int]] = []
    soft = [256]

    def refuse(which: int, both: tuple[int, int]) -> None:
        asked.append(both)
        if both[0] > 10_240:
            raise ValueError("current limit exceeds maximum limit")
        soft[0] = both[0]

    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.setattr(resource, "getrlimit", lambda which: (soft[0], resource.RLIM_INFINITY))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert raise_limit() == 10_240
    assert asked == [(10_240, resource.RLIM_INFINITY)]
    monkeypatch.setattr(resource, "setrlimit", lambda *_: (_ for _ in ()).throw(ValueError("not allowed")))
    soft[0] = 256
    assert raise_limit() == 256


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("::1", "::/64"),
        ("2001:db8::1:2:3", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("", ""),
    ],
)
def test_a_network_of_ipv6_is_one_source(address: str, source: str) -> None:
    assert source_of(address) == source
