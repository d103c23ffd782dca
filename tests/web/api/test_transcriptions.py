"""Recordings sent by OpenAI's own client: the words are those of transcribing and translating them here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import openai
import pytest

from moshi_mlx.audio.encoded import StreamEncoder
from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.conversation.transcript import Transcript
from moshi_mlx.runtime.moshi import assemble
from moshi_mlx.tasks.captions import srt, vtt
from moshi_mlx.tasks.transcribe import SttTiming, Transcriber
from moshi_mlx.tasks.translate import translate
from moshi_mlx.tasks.words import Transcription
from tests.web.api.conftest import heard, noise, wav

pytestmark = pytest.mark.slow

PCM = noise(1.6)
SENT = ("talk.wav", wav(PCM))


@pytest.fixture(scope="module")
def expected(stt_folder: Path) -> Transcription:
    """The words of stepping through it with the model itself."""
    checkpoint = Checkpoint.resolve(stt_folder)
    transcriber = Transcriber(assemble(checkpoint, "mlx"), SttTiming.from_settings(checkpoint.settings), ahead=1)
    found = transcriber.transcribe(heard(PCM))
    assert len(found.words) > 3
    return found


def test_the_text_is_that_of_the_model(api: openai.OpenAI, expected: Transcription) -> None:
    answer = api.audio.transcriptions.create(file=SENT, model="stt")
    assert answer.text == expected.text
    assert answer.to_dict()["usage"] == {"type": "duration", "seconds": 2}


def test_every_format_has_the_words_and_times_of_the_model(api: openai.OpenAI, expected: Transcription) -> None:
    create = api.audio.transcriptions.create
    assert create(file=SENT, model="stt", response_format="text") == f"{expected.text}\n"
    assert create(file=SENT, model="stt", response_format="srt") == srt(expected)
    assert create(file=SENT, model="stt", response_format="vtt") == vtt(expected)
    verbose = create(file=SENT, model="stt", response_format="verbose_json", language="fr")
    assert (verbose.text, verbose.duration, verbose.language) == (expected.text, 1.6, "fr")
    assert verbose.words is None
    assert [(one.start, one.end, one.text) for one in verbose.segments or []] == [
        (one.start, one.end, one.text) for one in expected.segments
    ]
    both = create(
        file=SENT, model="stt", response_format="verbose_json", timestamp_granularities=["word", "segment"]
    )
    assert [(one.word, one.start, one.end) for one in both.words or []] == [
        (one.text, one.start, one.end) for one in expected.words
    ]
    assert both.segments == verbose.segments


def test_a_stream_tells_each_word_and_then_the_text(api: openai.OpenAI, expected: Transcription) -> None:
    events = list(api.audio.transcriptions.create(file=SENT, model="stt", stream=True))
    assert {event.type for event in events[:-1]} == {"transcript.text.delta"}
    assert len(events) == len(expected.words) + 1
    assert "".join(getattr(event, "delta", "") for event in events) == expected.text
    assert events[-1].to_dict() == {"type": "transcript.text.done", "text": expected.text}


@pytest.mark.parametrize("kind", ["flac", "mp3", "opus"])
def test_other_files_are_heard(api: openai.OpenAI, kind: str, expected: Transcription) -> None:
    encoder = StreamEncoder(kind)
    sent = encoder.write(PCM) + encoder.finish()
    text = api.audio.transcriptions.create(file=(f"talk.{kind}", sent), model="stt").text
    assert text == expected.text if kind == "flac" else text


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # the client says so of OpenAI's translations
def test_a_translation_is_that_of_the_model(api: openai.OpenAI, hibiki_folder: Path) -> None:
    translated = translate(assemble(Checkpoint.resolve(hibiki_folder), "mlx"), heard(PCM), seed=0, tail=0.5)
    assert translated.text
    assert api.audio.translations.create(file=SENT, model="hibiki").text == translated.text
    verbose = api.audio.translations.create(file=SENT, model="hibiki", response_format="verbose_json")
    assert (verbose.text, verbose.language) == (translated.text, "english")
    transcript = Transcript()
    transcript.pieces = translated.pieces
    assert [one.text for one in verbose.segments or []] == [one.text for one in transcript.words(1.6).segments]


@pytest.mark.parametrize(
    ("asked", "param", "words"),
    [
        ({"response_format": "diarized_json"}, "response_format", "speakers"),
        ({"response_format": "docx"}, "response_format", "one of json"),
        ({"prompt": "Names: Ann"}, "prompt", "no prompt"),
        ({"temperature": 0.5}, "temperature", "temperature is 0"),
        ({"include": ["logprobs"]}, "include", "probabilities"),
        ({"timestamp_granularities": ["letter"]}, "timestamp_granularities", "word and segment"),
        ({"response_format": "srt", "stream": True}, "response_format", "stream"),
        ({"model": "tiny"}, "model", "cannot transcribe"),
        ({"model": "tts"}, "model", "cannot transcribe"),
        ({"file": ("talk.wav", b"no sound")}, "file", "talk.wav"),
        ({"file": ("talk.wav", wav(noise(5.5)))}, "file", "longer"),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_refused_in_words(
    api: openai.OpenAI, asked: dict[str, Any], param: str, words: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=words) as refused:
        api.audio.transcriptions.create(**{"file": SENT, "model": "stt", **asked})
    assert refused.value.param == param
    assert json.loads(refused.value.response.text)["error"]["type"] == "invalid_request_error"


def test_fields_that_ask_for_nothing_are_let_pass(api: openai.OpenAI, expected: Transcription) -> None:
    answer = api.audio.transcriptions.create(
        file=SENT, model="stt", prompt="", temperature=0.0, chunking_strategy="auto", language="en"
    )
    assert answer.text == expected.text
