"""Texts said for OpenAI's own client: the sound is that of saying them here, sent while it is made."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import openai
import pytest

import moshi_mlx.web.api.speech as speech
from moshi_mlx.audio.files import read_audio
from moshi_mlx.audio.speakers import Speakers
from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.runtime.moshi import assemble
from moshi_mlx.tasks.say import say
from tests.web.running import Running, run

pytestmark = pytest.mark.slow

TEXT = "Good morning."


@pytest.fixture(scope="module", autouse=True)
def _seeded() -> Any:
    """Requests draw by chance; here they all draw alike."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speech, "say", lambda *asked: say(*asked, seed=7))
        yield


@pytest.fixture(scope="module")
def expected(tts_folder: Path) -> dict[str, np.ndarray]:
    """The sound of each voice, (samples,) float32."""
    moshi, voices = assemble(Checkpoint.resolve(tts_folder), "mlx"), Speakers(tts_folder)
    return {
        name: np.concatenate(
            [one.audio for one in say(moshi, TEXT, [voices.read(str(tts_folder / f"{name}.safetensors"))], seed=7)]
        )
        for name in "ab"
    }


def samples(pcm: bytes) -> np.ndarray:
    return np.frombuffer(pcm, "<i2").astype(np.float32) / 32768


def test_the_sound_is_that_of_the_voice_asked_for(api: openai.OpenAI, expected: dict[str, np.ndarray]) -> None:
    assert len(expected["a"]) > 1920 * 10
    for voice, name in (("a", "a"), ("b", "b"), ({"id": "b"}, "b"), ("alloy", "a")):
        made = api.audio.speech.create(model="tts", voice=voice, input=TEXT, response_format="pcm")  # pyright: ignore
        np.testing.assert_allclose(samples(made.content), np.clip(expected[name], -1, 1), atol=1e-4)
    assert np.abs(expected["a"] - expected["b"][: len(expected["a"])]).max() > 0.01


@pytest.mark.parametrize(("kind", "content"), [("wav", "wav"), ("flac", "flac"), ("mp3", "mpeg"), ("opus", "ogg")])
def test_every_format_can_be_read_and_is_whole(
    api: openai.OpenAI, expected: dict[str, np.ndarray], tmp_path: Path, kind: Any, content: str
) -> None:
    made = api.audio.speech.create(model="tts", voice="a", input=TEXT, response_format=kind)
    assert made.response.headers["content-type"] == f"audio/{content}"
    made.write_to_file(tmp_path / f"speech.{kind}")
    read = read_audio(tmp_path / f"speech.{kind}").pcm
    assert len(expected["a"]) <= len(read) <= len(expected["a"]) + 4 * 1152
    if kind in ("wav", "flac"):
        np.testing.assert_allclose(read, np.clip(expected["a"], -1, 1), atol=1e-4)
    else:
        loud = [float(np.sqrt(np.mean(one**2))) for one in (read, expected["a"])]
        assert loud[0] == pytest.approx(loud[1], rel=0.5)


def test_speech_comes_while_it_is_made(api_server: Running, expected: dict[str, np.ndarray]) -> None:
    """Frame by frame, in pieces of the connection or events."""
    asked = {"model": "tts", "voice": "a", "input": TEXT, "response_format": "pcm"}

    async def go() -> None:
        async with aiohttp.ClientSession(api_server.url) as session:
            async with session.post("/v1/audio/speech", json=asked) as answer:
                pieces = [piece async for piece, _ in answer.content.iter_chunks() if piece]
            assert {len(piece) for piece in pieces} == {2 * 1920}
            async with session.post("/v1/audio/speech", json={**asked, "stream_format": "sse"}) as answer:
                assert answer.content_type == "text/event-stream"
                events = [json.loads(line[6:]) async for line in answer.content if line.startswith(b"data: ")]
        assert [one["type"] for one in events] == ["speech.audio.delta"] * len(pieces) + ["speech.audio.done"]
        assert [base64.b64decode(one["audio"]) for one in events[:-1]] == pieces
        np.testing.assert_allclose(samples(b"".join(pieces)), np.clip(expected["a"], -1, 1), atol=1e-4)

    run(go())


def test_the_voices_are_listed(api: openai.OpenAI) -> None:
    listed = api.get("/audio/voices", cast_to=dict[str, Any])
    names = [one["id"] for one in listed["data"]]
    assert {"a", "b"} <= set(names)
    assert api.get("/audio/voices/a", cast_to=dict[str, Any])["object"] == "audio.voice"
    with pytest.raises(openai.NotFoundError, match="voice 'x'"):
        api.get("/audio/voices/x", cast_to=dict[str, Any])


@pytest.mark.parametrize(
    ("asked", "param", "words"),
    [
        ({"response_format": "aac"}, "response_format", "one of mp3, opus, flac, wav, pcm"),
        ({"stream_format": "ogg"}, "stream_format", "audio, sse"),
        ({"speed": 2.0}, "speed", "one pace"),
        ({"instructions": "whisper"}, "instructions", "no instructions"),
        ({"voice": "nobody"}, "voice", "there is no voice 'nobody': it has a, b"),
        ({"voice": "/etc/passwd"}, "voice", "there is no voice"),
        ({"voice": 3}, "voice", "no text"),
        ({"input": " "}, "input", "nothing to say"),
        ({"input": "a" * 4097}, "input", "4097 characters"),
        ({"input": ["a"]}, "input", "no text"),
        ({"model": "stt"}, "model", "cannot say"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_be_done_is_refused_in_words(
    api: openai.OpenAI, asked: dict[str, Any], param: str, words: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=words) as refused:
        api.audio.speech.create(**{"model": "tts", "voice": "a", "input": TEXT, **asked})
    assert refused.value.param == param


def test_half_a_character_is_refused(api_server: Running) -> None:
    """As JSON can write it, and no client of OpenAI's would."""

    async def go() -> None:
        body = '{"model": "tts", "voice": "a", "input": "good \\ud83d"}'
        async with (
            aiohttp.ClientSession(api_server.url) as session,
            session.post("/v1/audio/speech", data=body) as answer,
        ):
            assert answer.status == 400
            assert "not UTF-8" in (await answer.json())["error"]["message"]

    run(go())


@pytest.mark.parametrize("body", ["{", "[]", '"text"', "[" * 100_000])
def test_what_is_no_request_is_refused(api_server: Running, body: str) -> None:
    async def go() -> None:
        async with (
            aiohttp.ClientSession(api_server.url) as session,
            session.post("/v1/audio/speech", data=body) as answer,
        ):
            assert answer.status == 400
            assert "JSON" in (await answer.json())["error"]["message"]

    run(go())
