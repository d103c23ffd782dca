"""A server whose model nobody visits gives its memory back, and loads it again for whoever comes."""

from __future__ import annotations

import asyncio
import io
import time
from pathlib import Path
from typing import Any

import aiohttp
import mlx.core as mx
import numpy as np
import soundfile

from moshi_mlx.models.layers import parameter_bytes
from moshi_mlx.runtime.moshi import Moshi, load
from moshi_mlx.tasks.caption_scheduler import CaptionScheduler
from moshi_mlx.tasks.transcribe import SttTiming, Transcriber
from tests.memory import active_memory
from tests.web.running import PATIENCE, Running, run, talking

SOON = 0.3  # seconds without a visit
SEEDED = "audio=pcm&captions=1&seed=7&text_temperature=0&audio_temperature=0"
FRAMES = 12


class Loading:
    """Loads a folder, and notes what MLX holds before and after."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.times, self.weights = folder, 0, 0
        self.before, self.limit = active_memory(), cache_limit()

    def __call__(self, progress: object) -> Moshi:
        self.times += 1
        moshi = load(self.folder, codec="mlx")
        self.weights = parameter_bytes(moshi.lm)
        return moshi

    def left(self) -> int:
        """Bytes that are held beside those before the first time."""
        return active_memory() - self.before


async def becomes(running: Running, state: str) -> None:
    """Wait until the model is so, as /api/info says."""
    deadline = time.monotonic() + PATIENCE
    while (await info(running))["state"] != state:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def info(running: Running) -> dict[str, Any]:
    async with aiohttp.ClientSession() as session, session.get(f"{running.url}/api/info") as answer:
        return await answer.json()


async def health(running: Running) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(f"{running.url}/health") as answer:
        return answer.status, (await answer.json())["status"]


async def transcribed(running: Running, model: str, pcm: np.ndarray) -> str:
    """What the API writes down."""
    file = io.BytesIO()
    soundfile.write(file, pcm, 24_000, format="WAV")
    form = aiohttp.FormData({"model": model})
    form.add_field("file", file.getvalue(), filename="a.wav")
    url = f"{running.url}/v1/audio/transcriptions"
    async with aiohttp.ClientSession() as session, session.post(url, data=form) as answer:
        found = await answer.json()
        assert answer.status == 200, found
        return found["text"]


def forgotten(running: Running, loading: Loading) -> None:
    """Wait until what is unloaded is gone, to the last byte but for a hundredth of the weights."""
    deadline = time.monotonic() + PATIENCE
    while loading.left() > 0.01 * loading.weights:
        assert time.monotonic() < deadline, f"{loading.left()} of {loading.weights} bytes are left"
        time.sleep(0.02)
    assert running.server.main.moshi is None
    assert cache_limit() == loading.limit


def cache_limit() -> int:
    """How many bytes MLX may keep for reuse."""
    limit = mx.set_cache_limit(0)
    mx.set_cache_limit(limit)
    return limit


def noise() -> np.ndarray:
    return (0.1 * np.random.default_rng(0).standard_normal(1920 * FRAMES)).astype(np.float32)


def test_who_talks_after_a_while_waits_for_the_model_again_and_is_told(
    tiny_folder: Path, stt_folder: Path
) -> None:
    loading = Loading(tiny_folder)

    def captions() -> CaptionScheduler:
        return CaptionScheduler(Transcriber(load(stt_folder, codec="mlx"), SttTiming(delay=0.5)), 1, "tiny-stt")

    running = Running(loading, captions=captions, unload_after=SOON)
    states, heard, held = [], [], []

    async def visit() -> None:
        async with talking(running.url, SEEDED) as talk:
            await talk.begun()
            assert (await info(running))["state"] == "ready"
            await talk.converse(noise(), lambda: len(talk.audio) >= FRAMES)
            states.append([one for one in talk.metadata if one.get("state") == "loading"])
            heard.append(talk.audio[: FRAMES - 4])
            held.append(loading.left())
        await becomes(running, "unloaded")
        assert await health(running) == (200, "unloaded")
        assert (await info(running))["captions"] == "tiny-stt"

    with running:
        for _ in range(2):
            run(visit())
            assert held[-1] > loading.weights
            forgotten(running, loading)
        assert loading.times == 2
        assert not any(one.get("again") for one in states[0])
        assert states[1][0] == {"type": "state", "state": "loading", "progress": None, "again": True}
        assert np.array_equal(heard[0], heard[1])
        # So does a request for the model that writes down words.
        assert run(transcribed(running, "tiny-stt", noise()))
        assert loading.times == 3


def test_a_model_that_only_transcribes_is_loaded_again_for_a_request(stt_folder: Path) -> None:
    loading = Loading(stt_folder)
    with Running(loading, about={"model": "stt", "greeting": "", "questions": []}, unload_after=SOON) as running:
        run(becomes(running, "unloaded"))
        forgotten(running, loading)
        found = [run(transcribed(running, "stt", noise()))]
        run(becomes(running, "unloaded"))
        forgotten(running, loading)
        found += [run(transcribed(running, "stt", noise()))]
        assert found[0] == found[1] != ""
        assert loading.times == 3
