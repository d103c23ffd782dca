"""`POST /v1/audio/speech`: a text in, speech out, sent while it is made."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from aiohttp import web

from moshi_mlx.audio.encoded import STREAMED, StreamEncoder
from moshi_mlx.errors import MoshiError
from moshi_mlx.tasks.say import say
from moshi_mlx.web.api.errors import ApiError
from moshi_mlx.web.api.models import Models, ServedModel, Task
from moshi_mlx.web.api.streams import EVENTS, StreamedAnswer
from moshi_mlx.web.api.work import Work
from moshi_mlx.web.voices import ServedVoices, UnknownVoice

if TYPE_CHECKING:
    import numpy as np

    from moshi_mlx.runtime.moshi import Moshi

LONGEST = 4096  # characters of a text, as OpenAI has it
_KINDS = {
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "audio/pcm",
}


class Speech:
    """The addresses of speech and voices."""

    def __init__(self, models: Models, work: Work) -> None:
        self._models, self._work = models, work

    async def say(self, request: web.Request) -> web.StreamResponse:
        """Answer /v1/audio/speech."""
        asked = await _read(request)
        model = self._models.that_can(Task.SAY, _string(asked, "model") or None)
        text = _string(asked, "input")
        if not text.strip():
            raise ApiError(400, "the input is empty: there is nothing to say", "input")
        if len(text) > LONGEST:
            raise ApiError(400, f"the input has {len(text)} characters, at most {LONGEST} expected", "input")
        kind = _choice(asked, "response_format", STREAMED, "mp3")
        as_events = _choice(asked, "stream_format", ("audio", "sse"), "audio") == "sse"
        if asked.get("speed") not in (None, 1):
            raise ApiError(400, "the models here have one pace: speed is 1", "speed", "unsupported_parameter")
        if _string(asked, "instructions").strip():
            words = "the models here follow no instructions: choose a voice that sounds so"
            raise ApiError(400, words, "instructions", "unsupported_parameter")
        voices = await _voices(model, asked)

        def saying(moshi: Moshi) -> Iterator[np.ndarray | None]:
            for spoken in say(moshi, text, voices):
                yield spoken.audio if len(spoken.audio) else None

        encoder = StreamEncoder(kind)
        answer = StreamedAnswer(request, EVENTS if as_events else _KINDS[kind], self._work.stuck)

        async def send(data: bytes) -> None:
            if data and as_events:
                await answer.tell(type="speech.audio.delta", audio=base64.b64encode(data).decode())
            elif data:
                await answer.send(data)

        try:
            async with self._work.running(request, model, saying) as job:
                async for audio in job:
                    await send(await asyncio.to_thread(encoder.write, audio))
        except ApiError as error:
            return await answer.fail(error)
        await send(await asyncio.to_thread(encoder.finish))
        if as_events:
            await answer.tell(type="speech.audio.done")
        return await answer.end()

    async def voices(self, request: web.Request) -> web.Response:
        """Answer /v1/audio/voices."""
        data = [voices.about(name) for voices in self._all() for name in voices.names]
        ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {}
        return web.json_response({"object": "list", "data": data, "has_more": False, **ends})

    async def voice(self, request: web.Request) -> web.Response:
        """Answer /v1/audio/voices/NAME."""
        name = request.match_info["name"]
        for voices in self._all():
            if name in voices.names:
                return web.json_response(voices.about(name))
        raise ApiError(404, f"there is no voice {name[:100]!r}", "voice", "voice_not_found")

    def _all(self) -> list[ServedVoices]:
        return [model.voices for model in self._models if model.voices]


async def _voices(model: ServedModel, asked: Mapping[str, Any]) -> list[np.ndarray]:
    """Return the voice that was asked for."""
    voice = asked.get("voice")
    name = _string(voice, "id") if isinstance(voice, dict) else _string(asked, "voice")
    if model.voices is None:
        return []
    try:
        return await asyncio.to_thread(model.voices.read, name)
    except UnknownVoice as error:
        raise ApiError(400, str(error), "voice", "voice_not_found") from error
    except MoshiError as error:
        raise ApiError(503, f"the voice cannot be had: {error}", "voice") from error


async def _read(request: web.Request) -> dict[str, Any]:
    try:
        asked = json.loads(await request.read())
    except (ValueError, RecursionError) as error:
        raise ApiError(400, f"the request is no JSON: {str(error)[:100]}") from error
    if not isinstance(asked, dict):
        raise ApiError(400, "the request is no JSON object")
    return asked


def _string(asked: Mapping[str, Any], name: str) -> str:
    value = asked.get(name)
    if value is not None and not isinstance(value, str):
        raise ApiError(400, f"{name} is no text", name)
    return value or ""


def _choice(asked: Mapping[str, Any], name: str, known: tuple[str, ...], default: str) -> str:
    value = _string(asked, name) or default
    if value not in known:
        raise ApiError(400, f"{name} is {value[:40]!r}: one of {', '.join(known)} expected", name)
    return value
