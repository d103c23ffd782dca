"""Servers with other models than one that talks, alone or beside it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest

from moshi_mlx.audio.files import read_audio
from moshi_mlx.checkpoint import nano
from moshi_mlx.errors import DownloadError
from moshi_mlx.frames import SAMPLE_RATE
from moshi_mlx.quality.transcription import word_errors
from moshi_mlx.runtime.moshi import Moshi, load
from moshi_mlx.tasks.caption_scheduler import CaptionScheduler
from moshi_mlx.tasks.transcribe import SttTiming, Transcriber
from moshi_mlx.web.model_pool import ModelPool
from tests.web.api.conftest import found, noise, until, wav
from tests.web.running import Running, run
from tests.web.test_program import Program

pytestmark = pytest.mark.slow

SENT = ("talk.wav", wav(noise(1.0)))


@pytest.fixture
def serving() -> Iterator[Callable[..., Running]]:
    started: list[Running] = []

    def start(moshi: Moshi, **options: Any) -> Running:
        started.append(Running(moshi, **options))
        started[-1].call(started[-1].server.model.ready(lambda: None))
        return started[-1]

    yield start
    for one in started:
        one.stop()


def client(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


def states(api: openai.OpenAI) -> dict[str, tuple[str, list[str]]]:
    return {one.id: (one.to_dict()["state"], one.to_dict()["tasks"]) for one in api.models.list()}  # pyright: ignore


async def info(url: str) -> dict[str, Any]:
    async with aiohttp.ClientSession() as session, session.get(f"{url}/api/info") as answer:
        return await answer.json()


def test_a_model_beside_the_one_that_talks_is_loaded_when_asked_for_and_unloaded(
    serving: Callable[..., Running], tiny_moshi: Moshi, stt_folder: Path
) -> None:
    pool = ModelPool([found(stt_folder, "stt")], idle=0.0)
    running = serving(tiny_moshi, pool=pool)
    name = str(stt_folder)
    with client(running.url) as api:
        assert states(api) == {"tiny": ("ready", ["talk"]), name: ("unloaded", ["transcribe"])}
        first = api.audio.transcriptions.create(file=SENT, model="stt").text
        model = pool.models[1]

        running.call(until(lambda: model.state == "unloaded"))
        assert api.audio.transcriptions.create(file=SENT, model=name).text == first
        assert run(info(running.url))["models"][1]["id"] == name


def test_captions_transcribe_for_requests_too(
    serving: Callable[..., Running], tiny_moshi: Moshi, stt_folder: Path
) -> None:
    transcriber = Transcriber(load(stt_folder, codec="mlx"), SttTiming(delay=0.5))
    running = serving(tiny_moshi, captions=lambda: CaptionScheduler(transcriber, 1, "tiny-stt"))
    with client(running.url) as api:
        assert states(api)["tiny-stt"] == ("ready", ["transcribe"])
        assert api.audio.transcriptions.create(file=SENT, model="tiny-stt").text


@pytest.mark.parametrize("kind", ["stt", "tts"])
def test_a_server_with_another_model_alone(
    serving: Callable[..., Running], folders: dict[str, Path], kind: str
) -> None:
    running = serving(load(folders[kind], codec="mlx"), about={"model": "alone", "greeting": "", "questions": []})
    with client(running.url) as api:
        assert states(api) == {"alone": ("ready", ["transcribe" if kind == "stt" else "say"])}
        if kind == "stt":
            assert api.audio.transcriptions.create(file=SENT, model="alone").text
    told = run(info(running.url))
    assert (told["talks"], [one["id"] for one in told["models"]]) == (False, ["alone"])

    async def chat() -> int:
        async with aiohttp.ClientSession() as session:
            try:
                async with session.ws_connect(f"{running.url}/api/chat"):
                    return 101
            except aiohttp.WSServerHandshakeError as error:
                return error.status

    assert run(chat()) == 501


def test_requests_are_told_that_the_server_has_not_come_up(tiny_moshi: Moshi, stt_folder: Path) -> None:
    """Whoever would wait for a model that cannot be had is told so."""

    def missing(progress: object) -> Moshi:
        raise DownloadError("the hub cannot be reached")

    with Running(missing, pool=ModelPool([found(stt_folder, "stt")])) as running:
        running.call(until(lambda: running.server.model.problem))
        with client(running.url) as api, pytest.raises(openai.InternalServerError, match="hub cannot be") as told:
            api.audio.transcriptions.create(file=SENT, model="stt")
        assert told.value.code == "missing"


@pytest.fixture
def program() -> Iterator[Callable[..., tuple[Program, str]]]:
    started: list[Program] = []

    def start(*words: object) -> tuple[Program, str]:
        started.append(Program(*words, "--port", 0, "--no-browser", "--offline", "--codec", "mlx"))
        url = started[-1].until(r"listening on (http://localhost:\d+)\n")[1]
        started[-1].until(r"\bready\b")
        return started[-1], url

    yield start
    for one in started:
        one.end()


def test_serve_names_all_its_models(
    program: Callable[..., tuple[Program, str]], folders: dict[str, Path], tiny_folder: Path
) -> None:
    stt, tts, hibiki = (str(folders[name]) for name in ("stt", "tts", "hibiki"))
    voice = folders["tts"] / "b.safetensors"
    words = ("--model", tiny_folder, "--stt", stt, "--tts", tts, "--translate", hibiki, "--tts-voice", voice)
    running, url = program(*words, "--max-seconds", 2)
    with client(url) as api:
        assert states(api) == {
            str(tiny_folder): ("ready", ["talk"]),
            stt: ("unloaded", ["transcribe"]),
            tts: ("unloaded", ["say"]),
            hibiki: ("unloaded", ["talk", "translate"]),
        }
        assert api.audio.transcriptions.create(file=SENT, model=stt).text
        made = api.audio.speech.create(model=tts, voice="b", input="Good morning.", response_format="wav")
        assert len(made.content) > 10_000
        with pytest.raises(openai.BadRequestError, match="longer"):
            api.audio.transcriptions.create(file=("talk.wav", wav(noise(2.5))), model=stt)
        assert states(api)[stt] == ("ready", ["transcribe"])
    assert running.end() == 130
    assert re.search(r"loaded model=\S*stt", running.printed)


def test_serve_with_a_speech_to_text_model_alone_needs_nothing_else(
    program: Callable[..., tuple[Program, str]],
) -> None:
    running, url = program("--model", "nano-stt")
    first = read_audio(nano.RECORDING).pcm[: 2 * SAMPLE_RATE]
    with client(url) as api:
        answer = api.audio.transcriptions.create(file=("talk.wav", wav(first)), model="nano-stt")
    assert word_errors(nano.captions()[0]["text"], answer.text).rate <= 0.2
    assert running.end() == 130
