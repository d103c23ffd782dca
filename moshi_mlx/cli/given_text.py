"""The text that a command is given: itself, in a file, or from stdin as it comes."""

from __future__ import annotations

import codecs
import os
import re
import select
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from moshi_mlx.errors import ConfigError
from moshi_mlx.tasks.say import new_words

if TYPE_CHECKING:
    from moshi_mlx.runtime.moshi import Moshi
    from moshi_mlx.tasks.script import Word
    from moshi_mlx.tasks.utterance import Pace

STDIN = "-"
CHUNK = 65_536  # bytes


class GivenText:
    """A text: itself, the file that it names, or "-" for stdin, which may be a language model's output.

    Raises ConfigError for one that is empty or cannot be read.
    """

    def __init__(self, text: str) -> None:
        self._text: str | None = None if text == STDIN else _read(text)
        self._stop = os.pipe()

    @property
    def is_coming(self) -> bool:
        """Whether it comes from stdin, and is waited for."""
        return self._text is None

    def lines(self) -> Iterator[str]:
        """Yield its lines, or what comes on stdin up to each white space: a word is whole only then."""
        return iter(self._text.splitlines(keepends=True)) if self._text is not None else self._pieces()

    def words(self, moshi: Moshi, turns: bool, pace: Pace, tell: Callable[[str], None]) -> Iterator[Word]:
        """Yield its words. turns: whether each line is a turn, of two speakers in alternation.

        tell: is told of words that the model does not know, which are left out.
        """
        words = new_words(moshi, pace, tell)
        begins = True
        for line in _whole(self.lines()):
            yield from words.turn(line) if begins else words.more(line)
            begins = turns and line.endswith("\n")

    def stop(self) -> None:
        """Let what comes on stdin end here, also if it is waited for; from any thread."""
        os.write(self._stop[1], b".")

    def close(self) -> None:
        """Give back what it holds; not while it is read."""
        for end in self._stop:
            os.close(end)

    def _pieces(self) -> Iterator[str]:
        # Not through sys.stdin: whoever waits there for a line cannot be stopped.
        stdin, decoder = sys.stdin.fileno(), codecs.getincrementaldecoder("utf-8")("replace")
        held = ""
        while True:
            ready, _, _ = select.select([stdin, self._stop[0]], [], [])
            data = b"" if self._stop[0] in ready else os.read(stdin, CHUNK)
            *whole, held = re.split(r"(?<=\s)", held + decoder.decode(data, final=not data))
            yield from whole
            if not data:
                break
        if held:
            yield held


def _read(text: str) -> str:
    if os.path.isfile(text):
        try:
            text = Path(text).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read {text} as text: {error}") from error
    if not text.strip():
        raise ConfigError("the text is empty: there is nothing to say")
    return text


def _whole(lines: Iterator[str]) -> Iterator[str]:
    """Keep a <break .../> in one piece, which has a space in it."""
    held = ""
    for line in lines:
        held += line
        if held.rfind("<break") <= held.rfind(">"):
            yield held
            held = ""
    if held:
        yield held
