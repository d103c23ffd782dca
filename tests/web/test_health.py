"""What a balancer is told, and how a server comes to its end with nobody cut off."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable

import aiohttp
import pytest

from moshi_mlx.runtime.moshi import Moshi
from moshi_mlx.web.limits import Limits
from tests.web.running import PATIENCE, Running, free, run, talking

ELSEWHERE = "https://other.example.com"


async def asked(running: Running, path: str, method: str = "GET") -> tuple[int, str, aiohttp.ClientResponse]:
    async with aiohttp.ClientSession() as session, session.request(method, running.url + path) as answer:
        return answer.status, await answer.text(), answer


async def health(running: Running, path: str = "/health") -> tuple[int, str]:
    status, text, _ = await asked(running, path)
    return status, json.loads(text)["status"]


async def until(wanted: Callable[[], object]) -> None:
    """Wait for what takes a moment in the server."""
    for _ in range(round(PATIENCE / 0.02)):
        if wanted():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("not in time")


async def refusal(running: Running) -> tuple[int, str | None]:
    """With what status, and for how long, a client is sent away."""
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        async with talking(running.url):
            pass
    assert caught.value.headers
    return caught.value.status, caught.value.headers.get("Retry-After")


def test_it_is_ready_when_its_model_is_and_full_when_its_places_are_taken(tiny_moshi: Moshi) -> None:
    loaded = threading.Event()

    def load(progress: object) -> Moshi:
        assert loaded.wait(PATIENCE)
        return tiny_moshi

    running = Running(load, limits=Limits(waiting=0))

    async def go() -> None:
        assert await health(running) == (503, "loading")
        assert await health(running, "/health/alive") == (200, "loading")
        assert await refusal(running) == (503, "5"), "nobody may wait, for the model neither"
        loaded.set()
        await until(lambda: running.server.health.state == "ready")
        status, text, answer = await asked(running, "/health", "HEAD")
        assert (status, text, answer.headers["Content-Type"]) == (200, "", "application/json; charset=utf-8")
        async with talking(running.url) as talk:
            await talk.begun()
            assert await health(running) == (503, "full")
            assert (await asked(running, "/health", "HEAD"))[2].headers["Retry-After"] == "5"
            assert await refusal(running) == (503, "5")
        await free(running)
        assert await health(running) == (200, "ready")
        assert 'moshi_state{state="ready"} 1\n' in (await asked(running, "/metrics"))[1]
        assert "moshi_refused_total 2\n" in (await asked(running, "/metrics"))[1]

    try:
        run(go())
    finally:
        loaded.set()
        running.stop()


def test_draining_it_finishes_what_goes_on_and_sends_others_elsewhere(tiny_moshi: Moshi) -> None:
    running = Running(tiny_moshi, elsewhere=ELSEWHERE)
    words = (
        "this server takes no new conversations: it finishes the conversations that it has, and ends; go to "
        + ELSEWHERE
    )

    def drained(seconds: float) -> asyncio.Future[None]:
        return asyncio.wrap_future(asyncio.run_coroutine_threadsafe(running.server.drain(seconds), running.loop))

    async def go() -> None:
        async with talking(running.url) as talk, talking(running.url) as waiting:
            await talk.begun()
            await waiting.until(lambda: "queued" in waiting.states())
            await drained(0.05)  # it is over, and who talks is still there
            await waiting.end()
            assert (waiting.errors, waiting.socket.close_code) == ([words], 1013)
            assert await refusal(running) == (503, "5")
            assert await health(running) == (503, "draining")
            assert await health(running, "/health/alive") == (200, "draining")
            assert json.loads((await asked(running, "/health"))[1])["elsewhere"] == ELSEWHERE
            assert json.loads((await asked(running, "/api/info"))[1])["health"] == "draining"
            assert 'moshi_state{state="draining"} 1\n' in (await asked(running, "/metrics"))[1]
            status, text, answer = await asked(running, "/v1/audio/speech", "POST")
            assert (status, answer.headers["Retry-After"]) == (503, "5")
            assert json.loads(text)["error"]["message"] == words
            again = drained(PATIENCE)
            await talk.speak_until(lambda: len(talk.audio) >= 3)
            assert not again.done()
            assert talk.errors == []
        await again  # as soon as the last has left

    with running:
        run(go())
