"""A server that talks, transcribes, translates and says, with tiny models."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import openai
import pytest

from moshi_mlx.audio.wav import header, pcm16
from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.runtime.moshi import Moshi, assemble
from moshi_mlx.web.limits import Limits
from moshi_mlx.web.model_pool import ModelPool, ServedModel, served
from tests.web.running import PATIENCE, Running

Serve = Callable[..., Running]


def found(folder: Path, name: str, aliases: list[str] | None = None) -> ServedModel:
    """A model of a folder, loaded when it is asked for. name: of its kind."""
    checkpoint = Checkpoint.resolve(folder)

    def load(advance: Callable[[int], None]) -> Moshi:
        return assemble(checkpoint, "mlx", None, advance)

    voices = [str(folder / "a.safetensors"), str(folder / "b.safetensors")] if name == "tts" else []
    return served(checkpoint, load, aliases or [name], voices=voices)


@pytest.fixture(scope="session")
def folders(stt_folder: Path, hibiki_folder: Path, tts_folder: Path) -> dict[str, Path]:
    return {"stt": stt_folder, "hibiki": hibiki_folder, "tts": tts_folder}


@pytest.fixture(scope="module")
def api_server(tiny_moshi: Moshi, folders: dict[str, Path]) -> Iterator[Running]:
    """All of them; a recording may have five seconds."""
    models = [found(folder, name) for name, folder in folders.items()]
    running = Running(tiny_moshi, pool=ModelPool(models), limits=Limits(max_seconds=5.0, jobs=4, tail=0.5))
    running.call(running.server.model.ready(lambda: None))
    yield running
    running.stop()


@pytest.fixture(scope="module")
def api(api_server: Running) -> Iterator[openai.OpenAI]:
    """OpenAI's client, as it is."""
    with openai.OpenAI(base_url=f"{api_server.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.RandomState(seed).standard_normal(round(24_000 * seconds))).astype(np.float32)


def wav(pcm: np.ndarray) -> bytes:
    """A WAV file."""
    samples = pcm16(pcm).tobytes()
    return header(len(samples)) + samples


def heard(pcm: np.ndarray) -> np.ndarray:
    """What a server reads in such a file."""
    return pcm16(pcm).astype(np.float32) / 32768


async def until(wanted: Callable[[], object]) -> None:
    """Wait for something that happens at the server."""

    async def wait() -> None:
        while not wanted():
            await asyncio.sleep(0.01)

    await asyncio.wait_for(wait(), PATIENCE)
