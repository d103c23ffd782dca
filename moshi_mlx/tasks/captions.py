"""Transcriptions as files: SubRip (srt), WebVTT (vtt), JSON and plain text."""

from __future__ import annotations

import json
from collections.abc import Callable

from moshi_mlx.tasks import subtitles
from moshi_mlx.tasks.words import Transcription


def srt(transcription: Transcription) -> str:
    """Return numbered subtitles, a segment each."""
    return subtitles.srt(_lines(transcription))


def vtt(transcription: Transcription) -> str:
    """Return WebVTT, a segment a cue."""
    return subtitles.vtt(_lines(transcription))


def as_json(transcription: Transcription) -> str:
    """Return an object with text, seconds, segments, words and pauses; times are seconds of the recording."""
    found = {
        "text": transcription.text,
        "seconds": round(transcription.seconds, 3),
        "segments": [{"start": one.start, "end": one.end, "text": one.text} for one in transcription.segments],
        "words": [{"word": one.text, "start": one.start, "end": one.end} for one in transcription.words],
        "pauses": [{"pause": one.time, "p": round(one.probability, 4)} for one in transcription.pauses],
    }
    return json.dumps(found, ensure_ascii=False, indent=1) + "\n"


def txt(transcription: Transcription) -> str:
    """Return the words, a segment a line."""
    return "".join(f"{segment.text}\n" for segment in transcription.segments)


FORMATS: dict[str, Callable[[Transcription], str]] = {"srt": srt, "vtt": vtt, "json": as_json, "txt": txt}
"""File name ending -> writer."""


def _lines(transcription: Transcription) -> list[subtitles.Line]:
    return [(segment.start, segment.end, segment.text) for segment in transcription.segments]
