"""Who PersonaPlex is, conversation by conversation."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest

from moshi_mlx.audio.files import read_audio
from moshi_mlx.checkpoint import nano
from moshi_mlx.checkpoint.voices import Voices
from moshi_mlx.runtime.moshi import Moshi, load
from moshi_mlx.tasks.persona import Role
from moshi_mlx.web.prompts import Prompts
from moshi_mlx.wire import messages
from tests.persona_folder import VOICE, write_persona
from tests.web.running import Running, run, talking

pytestmark = pytest.mark.slow

GREEDY = "text_temperature=0&audio_temperature=0"
SILENCE, WORDS = np.zeros(1920, np.float32), 12
ROLE = "You+are+a+wise+teacher."


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_persona(tmp_path_factory.mktemp("persona") / "model")


@pytest.fixture(scope="module")
def persona(folder: Path) -> Iterator[Running]:
    def loaded(progress: object) -> Moshi:
        return load(folder, codec="mlx")

    server = Running(
        loaded, max_sessions=2, prompts=lambda moshi: Prompts(moshi, Voices(str(folder)), Role("You are kind."))
    )
    yield server
    server.stop()


def words(server: Running, query: str) -> tuple[list[bytes], list[dict]]:
    """The first words to somebody silent, whom a busy machine cannot hear wrong, and what the client was told."""

    async def go() -> tuple[list[bytes], list[dict]]:
        async with talking(server.url, f"{GREEDY}&{query}") as talk:
            await talk.begun()
            await talk.converse(SILENCE, lambda: len(talk.of_kind(2)) >= WORDS)
            return talk.of_kind(2)[:WORDS], talk.metadata

    return run(go())


def test_a_query_chooses_voice_and_role(persona: Running) -> None:
    own, about = words(persona, "audio=pcm")
    ready = next(one for one in about if one.get("state") == "ready")
    assert (ready["voices"], ready["persona"]) == ([VOICE], "You are kind.")
    role = words(persona, f"audio=pcm&text_prompt={ROLE}&seed=-1")[0]
    both = words(persona, f"audio=pcm&text_prompt={ROLE}&voice_prompt={VOICE}.pt&seed=3")[0]
    assert own != role != both != own
    assert words(persona, "audio=pcm&text_prompt=You+are+kind.&voice_prompt=")[0] == own
    with urlopen(f"{persona.url}/api/info") as answer:
        info = json.load(answer)
    assert (info["voices"], info["persona"]) == ([VOICE], "You are kind.")


def test_start_over_begins_after_the_prompt(persona: Running) -> None:
    async def go() -> None:
        async with talking(persona.url, f"{GREEDY}&audio=pcm&text_prompt={ROLE}&seed=1") as talk:
            await talk.begun()
            await talk.converse(SILENCE, lambda: len(talk.of_kind(2)) >= WORDS)
            await talk.socket.send_bytes(bytes([messages.Kind.CONTROL, messages.RESTART]))
            await talk.until(lambda: any(one["type"] == "reset" for one in talk.metadata))
            reset = next(at for at, one in enumerate(talk.messages) if one[0] == 4 and b'"reset"' in one[1])
            before = sum(kind == 2 for kind, _ in talk.messages[:reset])
            await talk.converse(SILENCE, lambda: len(talk.of_kind(2)) >= before + WORDS)
            assert talk.of_kind(2)[before : before + WORDS] == talk.of_kind(2)[:WORDS]

    run(go())


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("voice_prompt=NATF3.pt", "has no voice 'NATF3.pt': it has NATF9"),
        ("voice_prompt=../../config.json", "has no voice '../../config.json'"),
        (f"text_prompt={'word+' * 300}", "longer than the model's window"),
    ],
)
def test_what_the_model_has_not_is_said_in_words(persona: Running, query: str, message: str) -> None:
    async def go() -> None:
        async with talking(persona.url, f"audio=pcm&{query}") as talk:
            await talk.end()
            assert any(message in error for error in talk.errors), talk.errors
            assert talk.socket.close_code == 1008

    run(go())


@pytest.mark.parametrize("audio", ["pcm", "opus"])
def test_a_model_without_prompts_says_so_once_and_talks_on(server: Running, audio: str) -> None:
    note = "this model takes no voice_prompt and no text_prompt"

    async def go() -> None:
        async with talking(server.url, f"audio={audio}&voice_prompt=NATF2.pt&text_prompt={ROLE}&seed=4") as talk:
            await talk.begun()
            await talk.until(lambda: note in [*talk.errors, *(one.get("note") for one in talk.metadata)])
            assert talk.messages[0] == (0, b"")
            told = [one["note"] for one in talk.metadata if one["type"] == "note"]
            assert (told, talk.errors) == (([note], []) if audio == "pcm" else ([], [note]))
            await asyncio.sleep(0.2)
            assert not talk.closed
        async with talking(server.url, f"audio={audio}&voice_prompt=&seed=4") as talk:
            await talk.begun()
            await asyncio.sleep(0.2)
            assert not talk.errors
            assert not any(one["type"] == "note" for one in talk.metadata)

    run(go())


@pytest.fixture(scope="module")
def nano_persona() -> Iterator[Running]:
    def loaded(progress: object) -> Moshi:
        return load(nano.PERSONA_NAME, codec="mlx", offline=True)

    role = Role("You are Nora and you are friendly.")
    voices = Voices(nano.PERSONA_NAME, offline=True)
    server = Running(loaded, prompts=lambda moshi: Prompts(moshi, voices, role))
    yield server
    server.stop()


@pytest.mark.parametrize(
    ("query", "answer"),
    [
        ("", "It is Paris, my friend."),
        ("&text_prompt=You+are+Nora+and+you+are+formal.&voice_prompt=male.pt", "The capital would be Paris."),
    ],
    ids=["the server's role", "the client's"],
)
def test_a_question_is_answered_in_the_role_that_was_asked_for(
    nano_persona: Running, query: str, answer: str
) -> None:
    question = np.concatenate([np.zeros(12_000, np.float32), read_audio(nano.RECORDING).pcm[: 2 * 24_000]])

    async def go() -> str:
        async with talking(nano_persona.url, f"audio=pcm{query}") as talk:
            await talk.begun()
            await talk.converse(question)
            await talk.converse(np.zeros(3 * 24_000, np.float32))
            return talk.text.strip()

    assert run(go()) == answer
