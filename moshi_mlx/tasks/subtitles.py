"""Words with their times as files that players and editors read: SubRip, WebVTT, plain text.

Source: the SubRip layout as players read it; W3C WebVTT.
"""

from __future__ import annotations

from collections.abc import Iterable

Line = tuple[float, float, str]  # seconds of its begin and end, text
SHORTEST = 0.08  # seconds a line is shown at least: one of no length is not shown at all


def srt(lines: Iterable[Line]) -> str:
    """Return the lines as SubRip."""
    blocks = (f"{n}\n{_span(line, ',')}\n{line[2]}\n" for n, line in enumerate(lines, 1))
    return "\n".join(blocks)


def vtt(lines: Iterable[Line]) -> str:
    """Return the lines as WebVTT."""
    escaped = ((begin, end, _escaped(text)) for begin, end, text in lines)
    return "\n".join(["WEBVTT\n", *(f"{_span(line, '.')}\n{line[2]}\n" for line in escaped)])


def clock(seconds: float) -> str:
    """Return a time for people: 0:07, 12:34, 1:02:03."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _span(line: Line, point: str) -> str:
    begin, end, _ = line
    return f"{_time(begin, point)} --> {_time(max(end, begin + SHORTEST), point)}"


def _time(seconds: float, point: str) -> str:
    milliseconds = round(1000 * seconds)
    hours, rest = divmod(milliseconds, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    return f"{hours:02}:{minutes:02}:{rest // 1000:02}{point}{rest % 1000:03}"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
