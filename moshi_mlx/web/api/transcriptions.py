"""`POST /v1/audio/transcriptions` and `/v1/audio/translations`: a recording in, its words out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from aiohttp import web

from moshi_mlx.conversation.transcript import Transcript
from moshi_mlx.frames import SAMPLE_RATE
from moshi_mlx.runtime.reply import Reply
from moshi_mlx.tasks.captions import srt, vtt
from moshi_mlx.tasks.transcribe import collected
from moshi_mlx.tasks.translate import text_steps
from moshi_mlx.tasks.words import Pause, Transcription, Word
from moshi_mlx.web.api.errors import ApiError
from moshi_mlx.web.api.models import Models, ServedModel, Task
from moshi_mlx.web.api.streams import EVENTS, StreamedAnswer
from moshi_mlx.web.api.uploads import Form, Uploads
from moshi_mlx.web.api.work import Work

if TYPE_CHECKING:
    from moshi_mlx.runtime.moshi import Moshi

FORMATS = ("json", "text", "srt", "verbose_json", "vtt")
_NO_SPEAKERS = "the models here do not tell speakers apart: ask for json, text, srt, verbose_json or vtt"
_NO_PROMPT = "the models here take no prompt and no keywords: they write what they hear"


class Transcriptions:
    """Both addresses. tail: of translations, as in `tasks.translate`."""

    def __init__(self, models: Models, uploads: Uploads, work: Work, tail: float) -> None:
        self._models, self._uploads, self._work, self._tail = models, uploads, work, tail

    async def transcribe(self, request: web.Request) -> web.StreamResponse:
        """Answer /v1/audio/transcriptions."""
        form = await self._uploads.read(request, self._work.link_of(request))
        model = self._models.that_can(Task.TRANSCRIBE, form.one("model") or None)
        if form.one("response_format") == "diarized_json" or any(form.fields.get("known_speaker_names", [])):
            raise ApiError(400, _NO_SPEAKERS, "response_format", "unsupported_parameter")
        kind = form.choice("response_format", FORMATS, "json")
        _check(form)
        form.refuse(
            keywords=_NO_PROMPT,
            include="probabilities of tokens are not given: leave `include` out",
        )
        granularities = form.fields.get("timestamp_granularities", []) or ["segment"]
        if set(granularities) - {"word", "segment"}:
            raise ApiError(400, "timestamp_granularities are word and segment", "timestamp_granularities")
        streams = form.choice("stream", ("true", "false", "True", "False"), "false").lower() == "true"
        pcm = _recording(form)
        if streams:
            if kind not in ("json", "text"):
                raise ApiError(400, f"a stream has events and no format: leave {kind} out", "response_format")
            return await self._stream(request, model, pcm)
        async with self._work.running(request, model, _hearing(model, pcm)) as job:
            found = collected([one async for batch in job for one in batch], len(pcm) / SAMPLE_RATE)
        language = form.one("language") or next(iter(form.fields.get("languages", [])), "") or "und"
        return _answer(found, kind, granularities, language)

    async def translate(self, request: web.Request) -> web.StreamResponse:
        """Answer /v1/audio/translations."""
        form = await self._uploads.read(request, self._work.link_of(request))
        model = self._models.that_can(Task.TRANSLATE, form.one("model") or None)
        kind = form.choice("response_format", FORMATS, "json")
        _check(form)
        pcm, transcript = _recording(form), Transcript()

        def translating(moshi: Moshi) -> Iterator[list[tuple[float, str]] | None]:
            for pieces in text_steps(moshi, pcm, seed=0, tail=self._tail):
                yield pieces or None

        async with self._work.running(request, model, translating) as job:
            async for pieces in job:
                for time, text in pieces:
                    transcript.write(Reply(None, text, time))
        return _answer(transcript.words(len(pcm) / SAMPLE_RATE), kind, ["segment"], "english")

    async def _stream(self, request: web.Request, model: ServedModel, pcm: np.ndarray) -> web.StreamResponse:
        """Send each word as it is found."""
        answer, words = StreamedAnswer(request, EVENTS, self._work.stuck), list[str]()
        try:
            async with self._work.running(request, model, _hearing(model, pcm)) as job:
                async for batch in job:
                    for word in (one for one in batch if isinstance(one, Word)):
                        await answer.tell(
                            type="transcript.text.delta", delta=f" {word.text}" if words else word.text
                        )
                        words.append(word.text)
        except ApiError as error:
            return await answer.fail(error)
        await answer.tell(type="transcript.text.done", text=" ".join(words))
        return await answer.end()


def _hearing(model: ServedModel, pcm: np.ndarray) -> Callable[[Moshi], Iterator[list[Word | Pause] | None]]:
    def work(moshi: Moshi) -> Iterator[list[Word | Pause] | None]:
        transcriber = model.transcriber
        for found in transcriber.steps(transcriber.source(pcm)):
            yield found or None

    return work


def _check(form: Form) -> None:
    """Refuse what no model here can do. Fields whose effect would be none either way are let pass."""
    form.refuse(prompt=_NO_PROMPT)
    if form.one("temperature", "0").rstrip("0") not in ("", "0.", "."):
        raise ApiError(400, "words are not drawn here: temperature is 0", "temperature", "unsupported_parameter")


def _recording(form: Form) -> np.ndarray:
    assert form.pcm is not None, "a form that was read"
    return form.pcm


def _answer(found: Transcription, kind: str, granularities: list[str], language: str) -> web.Response:
    """Return a transcription in the format that was asked for."""
    usage = {"type": "duration", "seconds": math.ceil(found.seconds)}
    if kind == "json":
        return web.json_response({"text": found.text, "usage": usage})
    if kind != "verbose_json":
        text = {"srt": srt, "vtt": vtt, "text": lambda one: f"{one.text}\n"}[kind](found)
        return web.Response(text=text, content_type="text/vtt" if kind == "vtt" else "text/plain")
    body: dict[str, Any] = {
        "task": "translate" if language == "english" else "transcribe",
        "language": language,
        "duration": round(found.seconds, 3),
        "text": found.text,
        "usage": usage,
    }
    if "segment" in granularities:
        body["segments"] = [
            {"id": n, "seek": 0, "start": one.start, "end": one.end, "text": one.text, "temperature": 0.0}
            for n, one in enumerate(found.segments)
        ]
    if "word" in granularities:
        body["words"] = [{"word": one.text, "start": one.start, "end": one.end} for one in found.words]
    return web.json_response(body)
