"""The protocol as clients meet it: handshake, audio and words, reset, the line, the end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from itertools import count

import numpy as np
import pytest
import sphn

from moshi_mlx.conversation.trimming import ContextTrimmer
from moshi_mlx.runtime.moshi import Moshi
from moshi_mlx.web.limits import Limits
from tests.web.running import Running, Talk, free, run, talking
from tests.wire.test_ogg import in_long_pages

pytestmark = pytest.mark.slow


def noise(seconds: float) -> np.ndarray:
    return (0.1 * np.random.RandomState(1).standard_normal(int(24_000 * seconds))).astype(np.float32)


def test_raw_audio_is_answered_with_raw_audio_and_words(server: Running) -> None:
    async def go() -> None:
        async with talking(server.url, "audio=pcm&seed=4") as talk:
            await talk.begun()
            await talk.speak_until(
                lambda: len(talk.audio) >= 10 and talk.text and talk.metadata[-1]["type"] == "stats", noise(0.8)
            )
        assert talk.messages[0] == (0, b"")
        ready = talk.metadata[0]
        assert (ready["type"], ready["state"], ready["model"], ready["seed"]) == ("state", "ready", "tiny", 4)
        assert {piece.shape for piece in talk.audio} == {(1920,)}
        assert all(np.abs(piece).max() > 0 for piece in talk.audio)
        (stats, *_) = [one for one in talk.metadata if one["type"] == "stats"]
        assert stats["sessions"] == 1
        assert stats["waiting"] == 0
        assert stats["step_ms"] > 0
        assert stats["lag_ms"] >= 80
        assert {"dropped", "silences", "unsent"} <= stats.keys()

    run(go())


def test_ogg_is_answered_with_whole_ogg_pages_and_no_metadata(server: Running) -> None:
    async def go() -> None:
        writer, reader = sphn.OpusStreamWriter(24_000), sphn.OpusStreamReader(24_000)
        async with talking(server.url, "") as talk:
            await talk.begun()
            while not (len(talk.of_kind(1)) >= 10 and talk.text):
                await talk.socket.send_bytes(b"\1" + writer.append_pcm(noise(0.08)))
                await asyncio.sleep(0.08)
        pages = talk.of_kind(1)
        assert all(page.startswith(b"OggS") for page in pages)
        assert b"OpusHead" in pages[0]
        assert not any(b"OpusHead" in page for page in pages[1:])
        heard = np.concatenate([reader.append_bytes(page) for page in pages])
        assert len(heard) == 1920 * len(pages)
        assert np.abs(heard).max() > 0.01
        assert not talk.metadata

    run(go())


def test_a_pipe_from_ffmpeg_is_answered_beside_another_client(tiny_moshi: Moshi) -> None:
    """Pages of a second, as `ffmpeg -c:a libopus -f ogg` writes them; the other speaks in frames."""
    writer = sphn.OpusStreamWriter(24_000)
    messages = [writer.append_pcm(noise(0.08)) for _ in range(100)]
    header, *pages = in_long_pages(messages, 1.0)
    running = Running(tiny_moshi, max_sessions=2)

    async def pipe(talk: Talk) -> None:
        await talk.begun()
        await talk.socket.send_bytes(b"\1" + header)
        for page in pages:
            await talk.socket.send_bytes(b"\1" + page)
            await asyncio.sleep(1.0)

    async def go() -> None:
        async with talking(running.url, "") as piped, talking(running.url) as other:
            await other.begun()
            pipes = asyncio.create_task(pipe(piped))
            await other.speak_until(lambda: len(piped.of_kind(1)) >= 10 and piped.text and other.text, noise(0.8))
            pipes.cancel()

    with running:
        run(go())


def test_every_conversation_begins_fresh(server: Running) -> None:
    """The same seed and the same audio: what came before leaves no trace."""

    async def say() -> list[np.ndarray]:
        async with talking(server.url, "audio=pcm&seed=1&text_temperature=0&audio_temperature=0") as talk:
            await talk.begun()
            await talk.speak_until(lambda: len(talk.audio) >= 4)
            return talk.audio[:4]

    first = run(say())
    run(free(server))
    second = run(say())
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_restart_begins_a_new_conversation_on_the_same_socket(server: Running) -> None:
    async def go() -> None:
        async with talking(server.url, "audio=pcm&seed=1&text_temperature=0&audio_temperature=0") as talk:
            await talk.begun()
            await talk.speak_until(lambda: len(talk.audio) >= 4)
            await talk.socket.send_bytes(bytes([3, 3]))
            await talk.until(lambda: {"type": "reset"} in talk.metadata)
            before = [kind for kind, content in talk.messages if kind == 1 or (kind == 4 and b"reset" in content)]
            count = before.index(4)
            await talk.speak_until(lambda: len(talk.audio) >= count + 4)
        for again, first in zip(talk.audio[count:], talk.audio[:4], strict=False):
            assert np.array_equal(again, first)

    run(go())


def test_a_conversation_may_have_an_end(server: Running) -> None:
    async def go() -> None:
        async with talking(server.url, "audio=pcm&max_steps=3") as talk:
            await talk.begun()
            with suppress(ConnectionError):
                await talk.speak_until(lambda: talk.closed)
            await talk.end()
            assert talk.socket.close_code == 1000
            assert len(talk.audio) == 2, "the first of three steps has none"

    run(go())


def test_who_comes_too_early_waits_in_line_and_is_told(server: Running) -> None:
    async def go() -> None:
        async with talking(server.url) as first:
            await first.begun()
            async with talking(server.url) as second, talking(server.url) as third, talking(server.url, "") as old:
                await second.until(lambda: second.metadata)
                await third.until(lambda: third.metadata)
                assert second.metadata == [{"type": "state", "state": "queued", "position": 1}]
                assert third.metadata == [{"type": "state", "state": "queued", "position": 2}]
                assert not old.messages, "Kyutai's clients wait for the handshake and know no more"
                await third.say(noise(0.3))  # Kyutai's client does not wait; that is not for the model
                await second.socket.close()
                await third.until(lambda: third.metadata[-1]["position"] == 1)
                await first.socket.close()
                await third.until(lambda: "ready" in third.states())
                assert (0, b"") in third.messages
                assert third.states() == ["queued", "queued", "ready"]
                assert not third.audio
                await third.socket.close()
                await old.begun()

    run(go())
    run(free(server))


def test_silence_is_broken_by_a_ping_but_not_before_the_handshake(tiny_moshi: Moshi) -> None:
    running = Running(tiny_moshi, limits=Limits(ping=0.1))

    async def go() -> None:
        async with talking(running.url, "") as first, talking(running.url, "") as waiting:
            await first.begun()
            await first.until(lambda: len(first.of_kind(6)) > 2)
            assert not waiting.messages

    with running:
        run(go())
        assert Limits().ping < 5


def test_loading_is_told_and_nobody_is_lost_meanwhile(tiny_moshi: Moshi) -> None:
    go_on = threading.Event()

    def load(progress: Callable[[float | None], None]) -> Moshi:
        progress(0.25)
        assert go_on.wait(60)
        return tiny_moshi

    running = Running(load)

    async def go() -> None:
        async with talking(running.url) as talk, talking(running.url) as leaving:
            await talk.until(lambda: talk.metadata)
            await leaving.until(lambda: leaving.metadata)
            await leaving.socket.close()
            go_on.set()
            await talk.begun()
            await talk.until(lambda: talk.states()[-1] == "ready")
        assert talk.metadata[0]["type"] == "state"
        assert {"type": "state", "state": "loading", "progress": 0.25} in talk.metadata

    try:
        run(go())
    finally:
        go_on.set()
        running.stop()


def test_four_talk_at_once_and_each_hears_its_own(tiny_moshi: Moshi) -> None:
    running = Running(tiny_moshi, max_sessions=4)

    async def one(seed: int) -> Talk:
        query = f"audio=pcm&seed={seed}"
        async with talking(running.url, query) as talk:
            await talk.begun()
            await talk.speak_until(lambda: len(talk.audio) >= 12, noise(0.4))
            return talk

    async def go() -> list[Talk]:
        return await asyncio.gather(*(one(seed) for seed in range(4)))

    with running:
        talks = run(go())
        assert len({talk.audio[5].tobytes() for talk in talks}) == 4


@pytest.mark.parametrize("busy", [False, True])
def test_it_stops_within_two_seconds_and_says_goodbye(tiny_moshi: Moshi, busy: bool) -> None:
    running = Running(tiny_moshi)

    async def go() -> float:
        async with talking(running.url) as talk, talking(running.url) as waiting:
            await talk.begun()
            saying = asyncio.create_task(talk.say(noise(4))) if busy else None
            await asyncio.sleep(0.5)
            took = await asyncio.to_thread(running.stop)
            await talk.end()
            await waiting.end()
            if saying:
                saying.cancel()
                await asyncio.gather(saying, return_exceptions=True)
            assert talk.socket.close_code == waiting.socket.close_code == 1001
            return took

    assert run(go()) < 30, "two seconds, and a busy machine's share"


def test_the_context_of_one_is_trimmed_while_others_talk_on(
    tiny_moshi: Moshi, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    frames = count(1)
    monkeypatch.setattr(ContextTrimmer, "due", lambda trimmer, frame: next(frames) == 12)
    caplog.set_level("INFO", "moshi_mlx.web")
    running = Running(tiny_moshi, max_sessions=2, limits=Limits(trim=0.5))

    async def go() -> None:
        async with talking(running.url) as one, talking(running.url) as other:
            for talk in (one, other):
                await talk.begun()
            pieces = [
                talk.speak_until(lambda talk=talk: len(talk.audio) >= 20, noise(0.8)) for talk in (one, other)
            ]
            await asyncio.gather(*pieces)
        assert not one.errors + other.errors

    with running:
        run(go())
        trimmed = [record for record in caplog.records if record.message.startswith("trimmed session=")]
        assert len(trimmed) == 1
        assert running.server.model.stats.frames >= 20
