"""Two servers behind nginx, by the file in examples/: clients stay, go on to the other, and are not cut off."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import aiohttp
import numpy as np
import pytest

from tests.ports import free_port
from tests.web.running import PATIENCE, run, talking
from tests.web.test_program import Program

NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(NGINX is None, reason="nginx is not installed")]

CONFIG = Path(__file__).parents[2] / "examples" / "nginx.conf"
FRAMES, ANSWERS = 12, 10  # the first two have none
SEEDED = "audio=pcm&seed=7&text_temperature=0&audio_temperature=0"
COOKIE = {"Cookie": "moshi_client=somebody"}


@pytest.fixture
def servers(tiny_folder: Path) -> Iterator[list[Program]]:
    """Two, each for one person, as the file says; they load at the same time."""
    words = ["--model", tiny_folder, "--codec", "mlx", "--max-waiting", 0, "--port", 0, "--no-browser"]
    found = [Program(*words) for _ in range(2)]
    try:
        for one in found:
            one.until(r" ready seconds=\d")
        yield found
    finally:
        for one in found:
            one.end(signal.SIGKILL)


@pytest.fixture
def balancer(servers: list[Program], tmp_path: Path) -> Iterator[str]:
    """The address of nginx, with the committed file but for its ports."""
    port, text = free_port(), CONFIG.read_text()
    ports = {"listen 8080;": f"listen 127.0.0.1:{port};"}
    for written, one in zip(("127.0.0.1:9001", "127.0.0.1:9002"), servers, strict=True):
        ports[written] = f"127.0.0.1:{own_port(one)}"
    for written, used in ports.items():
        assert text.count(written) == 1
        text = text.replace(written, used)
    (tmp_path / "nginx.conf").write_text(text)
    assert NGINX
    command = [NGINX, "-p", tmp_path, "-c", tmp_path / "nginx.conf", "-g", "daemon off;"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        run(answering(f"http://127.0.0.1:{port}/health/alive"))
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(PATIENCE)


def own_port(server: Program) -> int:
    return int(server.until(r"listening on http://localhost:(\d+)")[1])


async def answering(url: str) -> None:
    async with aiohttp.ClientSession() as session:
        for _ in range(round(PATIENCE / 0.02)):
            with suppress(aiohttp.ClientConnectionError):
                async with session.get(url):
                    return
            await asyncio.sleep(0.02)
    raise AssertionError(f"{url} does not answer")


async def state(server: Program) -> str:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://localhost:{own_port(server)}/health") as answer,
    ):
        found = json.loads(await answer.text())["status"]
        assert answer.status == (200 if found == "ready" else 503)
        return found


async def states(servers: list[Program], wanted: list[str]) -> None:
    """Wait until the servers are so."""
    for _ in range(round(PATIENCE / 0.02)):
        if [await state(server) for server in servers] == wanted:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"never {wanted}")


def test_two_servers_behind_nginx(servers: list[Program], balancer: str) -> None:
    pcm = (0.1 * np.random.default_rng(0).standard_normal(1920 * FRAMES)).astype(np.float32)

    async def go() -> None:
        # A browser gets the cookie by which it is known, once.
        async with aiohttp.ClientSession() as session, session.get(balancer) as answer:
            assert answer.headers["Set-Cookie"].startswith("moshi_client=")
        async with aiohttp.ClientSession() as session, session.get(balancer, headers=COOKIE) as answer:
            assert answer.status == 200
            assert "Set-Cookie" not in answer.headers

        # A client comes back to the server that it had.
        homes, alone = set(), []
        for _ in range(3):
            async with talking(balancer, SEEDED, headers=COOKIE) as talk:
                await talk.begun()
                found = [await state(server) for server in servers]
                homes.add(found.index("full"))
                await talk.converse(pcm)
                await talk.until(lambda: len(talk.audio) == ANSWERS)
                alone = talk.audio
            await states(servers, ["ready", "ready"])
        (home,) = homes
        near, far = servers[home], servers[1 - home]

        # While that one is full, another client of it gets the other; then there is no place at all.
        async with talking(balancer, SEEDED, headers=COOKIE) as talk:
            await talk.begun()
            async with talking(balancer, SEEDED, headers=COOKIE) as second:
                await second.begun()
                assert [await state(near), await state(far)] == ["full", "full"]
                with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                    async with talking(balancer, SEEDED, headers=COOKIE):
                        pass
                assert caught.value.status == 503
                assert caught.value.headers
                assert caught.value.headers["Retry-After"] == "5"
            await states([far], ["ready"])

            # The first is told to end: who talks there loses nothing, who comes is taken by the other.
            async def told() -> None:
                await talk.until(lambda: len(talk.audio) >= 2)
                near.process.send_signal(signal.SIGTERM)
                await states([near], ["draining"])
                async with talking(balancer, SEEDED, headers=COOKIE) as second:
                    await second.begun()
                    assert await state(far) == "full"

            telling = asyncio.create_task(told())
            await talk.converse(pcm, lambda: telling.done() and len(talk.audio) >= ANSWERS)  # never a pause
            await telling
            assert np.array_equal(talk.audio[:ANSWERS], alone)
            assert near.process.poll() is None
        assert await asyncio.to_thread(near.process.wait, PATIENCE) == 0

        # It is gone; told twice, the other ends at once, though somebody talks.
        await states([far], ["ready"])
        async with talking(balancer, SEEDED, headers=COOKIE) as talk:
            await talk.begun()
            far.process.send_signal(signal.SIGTERM)
            await states([far], ["draining"])
            far.process.send_signal(signal.SIGTERM)
            await talk.end()
            assert talk.socket.close_code == 1001
        assert await asyncio.to_thread(far.process.wait, PATIENCE) == 0

    run(go())
