"""From the tokens of a speech-to-text model to words and pauses with their times, and from words to segments.

Source: kyutai-labs/delayed-streams-modeling, scripts/stt_from_file_pytorch.py (times of words, pauses).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from moshi_mlx.frames import FRAME_SECONDS
from moshi_mlx.models.config import LmConfig
from moshi_mlx.runtime.session import Tokenizer

LONGEST_WORD = 1.0  # seconds; nothing says where a word ends before a pause, and few words are longer
PAUSE_HEAD = 2  # of the extra heads: the one that looks two seconds ahead
PAUSE_PROBABILITY = 0.5  # of its class 0, silence

SEGMENT_GAP = 0.6  # seconds between words that end a segment
SEGMENT_SECONDS = 7.0  # a segment is no longer, so that it can be read as a subtitle,
SEGMENT_CHARACTERS = 84  # nor has it more characters: two lines


@dataclass(frozen=True)
class Word:
    """A word and its time, in seconds of the recording."""

    text: str
    start: float
    end: float


@dataclass(frozen=True)
class Pause:
    """The model expects silence: at this time, in seconds of the recording, with this probability."""

    time: float
    probability: float


@dataclass(frozen=True)
class Segment:
    """Words without a pause between them."""

    words: tuple[Word, ...]

    @property
    def text(self) -> str:
        """The words, with spaces."""
        return " ".join(word.text for word in self.words)

    @property
    def start(self) -> float:
        """When its first word begins, in seconds."""
        return self.words[0].start

    @property
    def end(self) -> float:
        """When its last word ends, in seconds."""
        return self.words[-1].end


@dataclass(frozen=True)
class Transcription:
    """What was said in a recording of so many seconds."""

    seconds: float
    words: Sequence[Word] = field(default=())
    pauses: Sequence[Pause] = field(default=())

    @property
    def segments(self) -> list[Segment]:
        """The words, cut at pauses; see `begins_segment`."""
        found: list[list[Word]] = []
        for word in self.words:
            if found and not begins_segment(found[-1], word, self.pauses):
                found[-1].append(word)
            else:
                found.append([word])
        return [Segment(tuple(words)) for words in found]

    @property
    def text(self) -> str:
        """All words, with spaces."""
        return " ".join(word.text for word in self.words)


def begins_segment(words: Sequence[Word], word: Word, pauses: Iterable[Pause]) -> bool:
    """Return whether a word that follows the words of a segment belongs to a new one."""
    last = words[-1]
    if word.start - last.end >= SEGMENT_GAP or word.end - words[0].start > SEGMENT_SECONDS:
        return True
    if sum(len(each.text) + 1 for each in words) + len(word.text) > SEGMENT_CHARACTERS:
        return True
    return any(last.start < pause.time <= word.start for pause in pauses)


class WordStream:
    """Joins the tokens of one recording, as they come, into words, and finds pauses.

    config: of the model, for what its tokens mean. prefix: seconds of silence in front of the recording.
    delay: seconds by which the model's text comes after the audio.
    seconds: of the recording, where that is known: no word is later.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        config: LmConfig,
        prefix: float,
        delay: float,
        seconds: float = float("inf"),
    ) -> None:
        self._text = tokenizer.stream()
        self._padding, self._boundary = config.text_padding_id, config.text_end_padding_id
        self._prefix, self._delay, self._seconds = prefix, delay, seconds
        self._position = 0  # of the next token; position p has heard p frames
        self._word = ""
        self._start = 0  # position at which it began
        self._paused: float | None = None  # when; until a piece of a word comes that was said later

    def push(self, token: int, vad: np.ndarray | None = None) -> list[Word | Pause]:
        """Take the token of the next frame, from the step that reads initial tokens on; give what is complete now.

        vad: as in `Reply`. A boundary token stands before a word, where there is room for it, and so ends the word
        before; a piece that begins with a space begins a word, too. What is followed by neither ends after a
        second: so long a word may be held back.
        """
        position, done = self._position, list[Word | Pause]()
        self._position += 1
        piece = "" if token in (self._padding, self._boundary) else self._text.push(token)
        due = token == self._padding and (position - self._start) * FRAME_SECONDS >= LONGEST_WORD
        if self._word and (token == self._boundary or piece.startswith(" ") or due):
            done.append(self._take(position))
        if piece.strip() or (piece and self._word):
            if not self._word:
                self._start = position
            self._word += piece
            if self._paused is not None and self._time(position) > self._paused:
                self._paused = None
        if vad is not None and len(vad) > PAUSE_HEAD and self._paused is None:
            probability = float(vad[PAUSE_HEAD, 0])
            if probability > PAUSE_PROBABILITY:
                self._paused = self._clipped(position * FRAME_SECONDS - self._prefix)
                done.append(Pause(self._paused, probability))
        return done

    def skip(self, frames: int) -> list[Word]:
        """Pass over frames that the model never heard; give the word that they cut off."""
        done = self.finish()
        self._position += frames
        return done

    @property
    def complete(self) -> float:
        """Seconds of the recording up to which all words that begin there have been given."""
        first = self._start if self._word else self._position
        return max(0.0, (first - 1) * FRAME_SECONDS - self._prefix - self._delay)

    def finish(self) -> list[Word]:
        """End the text; give the word that was not complete."""
        return [self._take(self._position)] if self._word else []

    def _take(self, position: int) -> Word:
        """Return the word at hand, which ends at a position at the latest."""
        text, self._word = self._word.strip(), ""
        start, end = self._time(self._start), self._time(position)
        return Word(text, start, self._clipped(min(end, start + LONGEST_WORD)))

    def _time(self, position: int) -> float:
        """Return when the text of a position was said: at frame position - 1, but for prefix and delay."""
        return self._clipped((position - 1) * FRAME_SECONDS - self._prefix - self._delay)

    def _clipped(self, seconds: float) -> float:
        return round(min(max(0.0, seconds), self._seconds), 3)
