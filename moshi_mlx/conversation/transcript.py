"""What is said in a conversation, with its times."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from moshi_mlx.tasks.words import LONGEST_WORD, Transcription, Word

if TYPE_CHECKING:
    from moshi_mlx.runtime.reply import Reply

Piece = tuple[float, str]  # (seconds, text); words begin with a space
PAUSE = 0.9  # seconds without a word that end an utterance


class Transcript:
    """A sink that remembers the words of a conversation."""

    def __init__(self) -> None:
        self.pieces: list[Piece] = []

    def write(self, reply: Reply) -> None:
        """Add the words of one reply."""
        if reply.text:
            self.pieces.append((reply.time, reply.text))

    @property
    def text(self) -> str:
        """All words so far."""
        return "".join(text for _, text in self.pieces).strip()

    def words(self, seconds: float) -> Transcription:
        """All words with their times, of a conversation of so many seconds; a word ends where the next begins."""
        pieces: list[Piece] = []
        for time, text in self.pieces:
            if pieces and not text.startswith(" "):
                pieces[-1] = (pieces[-1][0], pieces[-1][1] + text)
            else:
                pieces.append((time, text))
        after = [*(begin for begin, _ in pieces[1:]), *([seconds] if pieces else [])]
        words = [
            Word(text.strip(), begin, max(begin, min(begin + LONGEST_WORD, end)))
            for (begin, text), end in zip(pieces, after, strict=True)
        ]
        return Transcription(seconds, [word for word in words if word.text])

    def delay_after(self, seconds: float) -> float | None:
        """Seconds from a moment to the first word that comes after it; None if no word does."""
        return next((time - seconds for time, text in self.pieces if time >= seconds and text.strip()), None)


@dataclass(frozen=True)
class Utterance:
    """What one side says without a pause. begin, end: seconds; of Moshi's words only the beginnings are known."""

    begin: float
    end: float
    speaker: str
    text: str


def utterances(pieces: Iterable[Piece], speaker: str) -> list[Utterance]:
    """Join the pieces of what one side says into utterances: one ends where a pause begins."""
    found: list[Utterance] = []
    for time, text in pieces:
        if found and time - found[-1].end < PAUSE:
            last = found.pop()
            found.append(Utterance(last.begin, time, speaker, last.text + text))
        else:
            found.append(Utterance(time, time, speaker, text.lstrip()))
    return found
