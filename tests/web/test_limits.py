"""What strangers may not do: too much, too fast, from elsewhere, without the token; and no way out of the page."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import aiohttp
import numpy as np
import pytest

from moshi_mlx.audio.containers import checksum
from moshi_mlx.runtime.moshi import Moshi
from moshi_mlx.web.access import Access
from moshi_mlx.web.limits import Limits
from moshi_mlx.wire.ogg import make_page
from tests.web.running import PATIENCE, Running, free, run, talking


async def fetch(running: Running, path: str, **headers: str) -> tuple[int, str, aiohttp.ClientResponse]:
    """A request whose path is sent as it is."""
    async with aiohttp.ClientSession() as session:
        from yarl import URL

        async with session.get(URL(running.url + path, encoded=True), headers=headers) as answer:
            return answer.status, (await answer.read()).decode(), answer


async def refused(running: Running, query: str = "", **headers: str) -> int:
    """The status with which a web socket is refused."""
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        async with talking(running.url, query, headers=headers):
            pass
    return caught.value.status


async def last_words(running: Running, *messages: bytes) -> list[str]:
    """Errors told to a client that sends these and is thrown out for it."""
    async with talking(running.url) as talk:
        await talk.begun()
        with suppress(ConnectionError):  # the server may have closed before it had taken all
            for message in messages:
                await talk.socket.send_bytes(message)
        await talk.end()
        # Who is cut off in the middle of megabytes may be gone before it reads why: 1006.
        assert talk.socket.close_code in (1008, 1009) or (len(messages[-1]) > 1_000_000)
        return talk.errors


def test_too_long_a_message_ends_the_conversation_with_a_reason(server: Running) -> None:
    reason = "a message may have at most 65536 bytes"
    assert run(last_words(server, bytes(64 * 1024), bytes(64 * 1024 + 1))) == [reason]
    assert run(last_words(server, bytes(64 * 1024), bytes(3_000_000))) in ([reason], [])
    run(free(server))


def test_audio_far_ahead_of_its_time_ends_the_conversation_with_a_reason(server: Running) -> None:
    half = b"\1" + bytes(4 * 12_000)
    words = run(last_words(server, *[half] * 80))
    assert re.search("ahead of time", words[0])
    run(free(server))


def test_a_microphone_that_was_queued_is_dropped_but_for_its_beginning(server: Running) -> None:
    async def go() -> None:
        async with talking(server.url) as talk:
            await talk.begun()
            for _ in range(16):  # eight seconds
                await talk.socket.send_bytes(b"\1" + bytes(4 * 12_000))
            await talk.until(lambda: any(one.get("dropped", 0) >= 40 for one in talk.metadata))
            assert [one["note"] for one in talk.metadata if one["type"] == "note"] == [
                "audio came more than two seconds ahead of time; what is too far ahead is not heard"
            ]
            assert not talk.closed

    run(go())
    run(free(server))


def test_what_is_no_audio_is_ignored(server: Running) -> None:
    async def go() -> None:
        async with talking(server.url) as talk:
            await talk.begun()
            for kind in [0, *range(2, 256)]:
                if kind != 3:
                    await talk.socket.send_bytes(bytes([kind, 3, 3]))
            await talk.socket.send_bytes(b"")
            await talk.socket.send_str("\1 hello")
            await talk.socket.send_bytes(b"\3")
            await talk.socket.send_bytes(b"\3\x07")
            await talk.socket.send_bytes(b"\1\0\0")
            await talk.socket.send_bytes(b"\1" + np.full(1920, np.nan, "<f4").tobytes())
            await talk.speak_until(lambda: len(talk.audio) >= 3)
            assert not talk.errors
            assert {"type": "reset"} not in talk.metadata

    run(go())


@pytest.mark.parametrize(
    "query",
    ["text_temperature=warm", "audio_topk=2.5", "seed=nan", "audio_temperature=inf", "audio=mp3", "max_steps=x"],
)
def test_a_query_without_sense_is_refused(server: Running, query: str) -> None:
    assert run(refused(server, query)) == 400


def test_kyutais_query_is_taken_and_what_is_unknown_ignored(
    server: Running, caplog: pytest.LogCaptureFixture
) -> None:
    query = (
        "text_temperature=0.0&text_topk=25.0&audio_temperature=99&audio_topk=250&pad_mult=1&text_seed=123&audio_seed=-5"
        "&repetition_penalty_context=64&repetition_penalty=1.0&worker_auth_id=&email=a@b.c&image_resolution=224"
    )

    async def go() -> None:
        async with talking(server.url, query) as talk:
            await talk.begun()

    with caplog.at_level(logging.INFO, "moshi_mlx.web"):
        run(go())
        run(free(server))
    notes = [record.getMessage() for record in caplog.records if record.getMessage().startswith("note ")]
    assert any("audio_temperature=99 is out of range and taken as 2" in note for note in notes)
    assert any("pad_mult is not supported" in note for note in notes)
    (session,) = {note.split()[1] for note in notes}
    names = [record.getMessage().split()[0] for record in caplog.records if session in record.getMessage()]
    assert names[0] == "connected"
    assert names[-1] == "left"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost:1"}, 403),
        ({"Host": "evil.example"}, 403),
        ({"Host": "localhost.evil.example:80"}, 403),
        ({"Host": "["}, 403),
    ],
)
def test_pages_and_names_of_others_are_refused(server: Running, headers: dict[str, str], status: int) -> None:
    assert run(refused(server, **headers)) == status
    assert run(fetch(server, "/api/info", **headers))[0] == status
    assert run(fetch(server, "/health", **headers))[0] == 200, "a balancer may call it anything"


@pytest.mark.parametrize(
    "origin",
    [
        b"",
        b"\xff\xfe",
        b"http://localhost:%d\xff",
        b"http://localhost\xe9:%d",
        b"http://[",
        b"http://[::1:%d",
        b"http://localhost:%d/",
        b"http://evil.example@localhost:%d",
        b"http://localhost:%d@evil.example",
        b"http://localhost:%d http://evil.example",
        b"http://localhost:%d\r\nOrigin: http://evil.example",
        b"http://evil.example\r\nOrigin: http://localhost:%d",
        b"http://localhost:999999",
        b"localhost:%d",
    ],
)
def test_an_origin_that_cannot_be_read_is_refused(server: Running, origin: bytes) -> None:
    async def go(said: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("localhost", server.port)
        said = said % server.port if b"%d" in said else said
        host = b"Host: localhost:%d\r\n" % server.port
        writer.write(b"GET /api/info HTTP/1.1\r\n" + host + b"Origin: " + said + b"\r\n\r\n")
        try:
            return (await reader.readline())[9:12]
        finally:
            writer.close()

    assert run(go(b"http://localhost:%d")) == b"200"
    assert run(go(origin)) in (b"403", b"400")


def test_every_answer_has_the_headers_and_names_no_version(server: Running) -> None:
    lines = {
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n": b"200",
        b"GET /api/info HTTP/1.1\r\nHost: localhost\r\n\r\n": b"200",
        b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n": b"404",
        b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\n": b"405",
        b"GET / HTTP/1.1\r\nHost: elsewhere\r\n\r\n": b"403",
        b"GET /api/chat HTTP/1.1\r\nHost: localhost\r\n\r\n": b"400",
        b"GET /api/chat?seed=x HTTP/1.1\r\nHost: localhost\r\n\r\n": b"400",
        b"GET / HTTP/9.9\r\n\r\n": b"400",
        b"\x16\x03\x01\r\n\r\n": b"400",
    }

    async def go(request: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("localhost", server.port)
        writer.write(request)
        try:
            return await reader.readuntil(b"\r\n\r\n")
        finally:
            writer.close()

    for request, status in lines.items():
        head = run(go(request)).lower()
        assert head[9:12] == status, request
        assert b"content-security-policy: default-src 'none'" in head, request
        assert b"x-content-type-options: nosniff" in head
        assert b"server: moshi-mlx\r\n" in head
        assert b"aiohttp" not in head
        assert (b"connection: close" in head or head.startswith(b"http/1.0")) == (status != b"200")


def test_pages_that_are_allowed_may_talk(tiny_moshi: Moshi, caplog: pytest.LogCaptureFixture) -> None:
    access = Access(page_hosts=["voice.example.com"], origins=["https://other.example:8443"])
    with Running(tiny_moshi, access=access) as running:
        for host, origin, status in (
            ("voice.example.com", "https://voice.example.com", 200),
            ("voice.example.com", "https://voice.example.com:8443", 200),
            ("localhost", "https://voice.example.com", 200),
            ("localhost", "https://other.example:8443", 200),
            ("localhost", "https://other.example", 403),
            ("voice.example.com", "https://evil.example", 403),
            ("evil.example", "https://evil.example", 403),
        ):
            with caplog.at_level(logging.INFO, "moshi_mlx.web"):
                caplog.clear()
                assert run(fetch(running, "/api/info", Host=host, Origin=origin))[0] == status, (host, origin)
            refusals = [one.getMessage() for one in caplog.records if one.getMessage().startswith("refused ")]
            assert len(refusals) == (status == 403)
            assert all(f"host={host} origin={origin} " in line for line in refusals)


def test_its_own_page_and_programs_without_a_page_are_let_in(server: Running) -> None:
    async def go(**headers: str) -> None:
        async with talking(server.url, headers=headers) as talk:
            await talk.begun()

    run(go())
    run(free(server))
    run(go(Origin=server.url))
    run(free(server))
    run(go(Host="127.0.0.1", Origin="http://127.0.0.1"))


@pytest.fixture(scope="module")
def guarded(tiny_moshi: Moshi) -> Iterator[Running]:
    running = Running(tiny_moshi, access=Access(token="s3cret"))
    yield running
    running.stop()


def test_without_the_token_nobody_comes_in(guarded: Running) -> None:
    async def go() -> None:
        for path in ("/", "/api/info", "/metrics", "/connection.js", "/?token=S3CRET", "/?token=%ff"):
            assert (await fetch(guarded, path))[0] == 401, path
        assert await refused(guarded) == 401
        assert await refused(guarded, "token=wrong") == 401
        assert (await fetch(guarded, "/health"))[0] in (200, 503)
        async with talking(guarded.url, "token=s3cret") as talk:
            await talk.begun()
        status, _, answer = await fetch(guarded, "/?token=s3cret")
        assert status == 200
        cookie = answer.cookies["moshi_token"]
        assert cookie["httponly"]
        assert cookie["samesite"] == "Strict"
        assert (await fetch(guarded, "/connection.js", Cookie="moshi_token=s3cret"))[0] == 200

    run(go())


@pytest.mark.parametrize(
    "path",
    [
        "/../server.py",
        "/..%2fserver.py",
        "/%2e%2e/server.py",
        "/page/../../server.py",
        "//etc/passwd",
        "/%2fetc%2fpasswd",
        "/..%5cserver.py",
        "/index.html%00.js",
        "/undefined",
        "/worklets",
        "/\udcff",
    ],
)
def test_no_name_leads_out_of_the_page(server: Running, path: str) -> None:
    status, text, _ = run(fetch(server, path.encode("utf-8", "surrogateescape").decode("latin-1")))
    assert status in (400, 403, 404)  # 403: a folder
    assert "import" not in text
    assert "root:" not in text


def test_the_page_comes_with_what_browsers_insist_on(server: Running) -> None:
    async def go() -> None:
        status, text, answer = await fetch(server, "/")
        assert status == 200
        assert "<title>" in text
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        _, _, answer = await fetch(server, "/connection.js")
        assert answer.content_type in ("text/javascript", "application/javascript")  # until Python 3.12 the latter
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
        # A new version is seen at once; what has not changed is not sent again.
        assert answer.headers["Cache-Control"] == "no-cache"
        status, text, _ = await fetch(server, "/connection.js", **{"If-None-Match": answer.headers["ETag"]})
        assert (status, text) == (304, "")

    run(go())


def test_a_page_of_ones_own_may_be_links_and_there_may_be_none(tiny_moshi: Moshi, tmp_path: Path) -> None:
    store, page = tmp_path / "store", tmp_path / "page"
    for folder in (store, page):
        folder.mkdir()
    (store / "mine").write_text("mine")
    (page / "index.html").symlink_to(store / "mine")

    async def get(running: Running, path: str) -> tuple[int, str]:
        return (await fetch(running, path))[:2]

    for folder, answers in ((page, [200, 200, 404]), (None, [404, 404, 404])):
        with Running(tiny_moshi, page=folder) as running:
            found = [run(get(running, path)) for path in ("/", "/index.html", "/../store/mine")]
            assert [status for status, _ in found] == answers
            assert ("mine" in found[0][1]) == (folder is page)
            assert run(get(running, "/api/info"))[0] == 200


def test_programs_can_ask_how_it_goes(server: Running) -> None:
    async def go() -> None:
        status, text, _ = await fetch(server, "/health")
        assert status == 200
        state = {"status": "ready", "sessions": 0, "max_sessions": 1, "waiting": 0, "max_waiting": 64}
        assert json.loads(text) == state
        async with talking(server.url) as talk:
            await talk.begun()
            await talk.speak_until(lambda: len(talk.audio) >= 3)
            metrics = await samples(server)
            assert metrics["moshi_sessions"] == 1
            assert metrics["moshi_lag_seconds"] > 0
        metrics = await samples(server)
        assert metrics["moshi_frames_total"] >= 3
        assert (
            metrics['moshi_generate_seconds{quantile="0.99"}']
            >= metrics['moshi_generate_seconds{quantile="0.5"}']
            > 0
        )
        assert (
            abs(metrics["moshi_generate_seconds_count"] - metrics["moshi_frames_total"]) <= 1
        )  # one is on its way
        assert metrics["moshi_connections_total"] >= 1
        info = json.loads((await fetch(server, "/api/info"))[1])
        assert info["model"] == "tiny"
        assert info["max_sessions"] == 1
        assert info["sampling"]["text_temperature"] == {"default": 0.7, "min": 0.0, "max": 2.0}
        assert set(info["sampling"]) >= {"text_topk", "audio_temperature", "audio_topk", "repetition_penalty"}

    run(free(server))
    run(go())


async def samples(running: Running) -> dict[str, float]:
    """Prometheus's text, read by its grammar."""
    _, text, answer = await fetch(running, "/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    found = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            match = re.fullmatch(r'([a-z_]+(?:\{[a-z]+="[a-z\d.]+"\})?) ([-+.e\d]+)', line)
            assert match, line
            found[match[1]] = float(match[2])
    return found


def test_damaged_audio_is_counted_and_what_was_counted_stays(server: Running) -> None:
    short = make_page(261 * b"\xff", 1)  # two lacing values; then one for all of it
    short = signed(short[:26] + b"\1\xff" + short[29:])
    damage = {"skipped_bytes": 5, "mended_pages": 1, "refused_packets": 2}

    async def counted() -> dict[str, float]:
        metrics = await samples(server)
        return {name: metrics[f"moshi_{name}_total"] for name in damage}

    async def go() -> None:
        before = await counted()
        wanted = {name: before[name] + count for name, count in damage.items()}
        async with talking(server.url, "") as talk:
            await talk.begun()
            for payload in (b"noise", make_page(b"\xff", 0), short):
                await talk.socket.send_bytes(b"\1" + payload)
            while await counted() != wanted:
                await asyncio.sleep(0.02)
        await free(server)
        assert await counted() == wanted

    run(free(server))
    run(asyncio.wait_for(go(), PATIENCE))


def signed(page: bytes) -> bytes:
    """An Ogg page with its check sum."""
    blank = page[:22] + bytes(4) + page[26:]
    return blank[:22] + checksum(blank).to_bytes(4, "little") + blank[26:]


def test_the_line_has_an_end(tiny_moshi: Moshi) -> None:
    running = Running(tiny_moshi, limits=Limits(waiting=1))
    running.call(running.server.model.ready(lambda: None))

    async def go() -> None:
        async with talking(running.url) as first, talking(running.url) as second:
            await first.begun()
            await second.until(lambda: "queued" in second.states())
            assert await refused(running) == 503

    with running:
        run(go())


def test_a_place_is_not_kept_by_who_says_nothing_while_others_wait(tiny_moshi: Moshi) -> None:
    running = Running(tiny_moshi, limits=Limits(idle=0.3, stats=0.1))

    async def go() -> None:
        async with talking(running.url) as idle:
            await idle.begun()
            await asyncio.sleep(0.6)
            assert not idle.errors, "nobody else wants the place"
            async with talking(running.url) as second:
                await second.begun()
                await idle.end()
                assert "while others wait" in idle.errors[0]

    with running:
        run(go())
