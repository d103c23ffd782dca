"""Showing words as they come."""

import io
import json

import pytest

from moshi_mlx.cli.words import JsonLines, PlainText, WordsAndProgress
from moshi_mlx.runtime.reply import Reply

REPLIES = [Reply(None, text, 0.08 * step) for step, text in enumerate(["", " Hel", "lo", "", " sea"])]


def test_json_lines_skip_the_padding() -> None:
    stream = io.StringIO()
    lines = JsonLines(stream)
    for reply in REPLIES:
        lines.write(reply)
    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(event["t"], event["text"]) for event in events] == [(0.08, " Hel"), (0.16, "lo"), (0.32, " sea")]


def test_plain_text_is_one_line() -> None:
    stream = io.StringIO()
    with PlainText(stream) as plain:
        for reply in REPLIES:
            plain.write(reply)
    assert stream.getvalue() == "Hello sea\n"


def test_the_terminal_keeps_the_words_and_not_the_bar(capsys: pytest.CaptureFixture[str]) -> None:
    replies = [*REPLIES, *(Reply(None, " [b]", 1.0) for _ in range(100))]
    with WordsAndProgress(total=len(replies)) as terminal:
        for reply in replies:
            terminal.write(reply)
    lines = capsys.readouterr().err.split("\n")
    first = max(number for number, line in enumerate(lines) if line.startswith("Hello sea"))
    assert " ".join(lines[first:]).split() == ["Hello", "sea", *["[b]"] * 100]
