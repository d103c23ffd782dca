"""Transcriptions as files: SubRip (srt), WebVTT (vtt), JSON and plain text."""

from __future__ import annotations

import json
from collections.abc import Callable

from moshi_mlx.tasks.words import Segment, Transcription


def srt(transcription: Transcription) -> str:
    """Return numbered subtitles, a segment each."""
    blocks = [
        f"{number}\n{_span(segment, ',')}\n{segment.text}\n"
        for number, segment in enumerate(transcription.segments, 1)
    ]
    return "\n".join(blocks)


def vtt(transcription: Transcription) -> str:
    """Return WebVTT, a segment a cue."""
    cues = [f"{_span(segment, '.')}\n{_escaped(segment.text)}\n" for segment in transcription.segments]
    return "\n".join(["WEBVTT\n", *cues])


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


def _span(segment: Segment, point: str) -> str:
    # A subtitle of no length is not shown: one frame at least.
    return f"{_clock(segment.start, point)} --> {_clock(max(segment.end, segment.start + 0.08), point)}"


def _clock(seconds: float, point: str) -> str:
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02}{point}{rest % 1000:03}"


def _escaped(text: str) -> str:
    """WebVTT takes & and < for markup."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
