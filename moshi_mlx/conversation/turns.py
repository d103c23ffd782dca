"""Who speaks when: the turns of a live conversation, from the user's frames and the model's replies.

The model writes down only its own words, so a user's turn is a stretch of sound; it has no text, unless captions
tell of the user's words.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from moshi_mlx.conversation.transcript import PAUSE
from moshi_mlx.frames import FRAME_SECONDS, SILENCE_DB, is_silent, level

if TYPE_CHECKING:
    from moshi_mlx.runtime.reply import Reply
    from moshi_mlx.tasks.words import Word

Speaker = Literal["user", "moshi"]

ABOVE_FLOOR = 9.0  # dB by which speech is louder than the room
FLOOR_RISE = 1.0 * FRAME_SECONDS  # dB a frame: as slowly the floor follows a room that becomes louder
SHORTEST = 2  # frames; a single loud one is a click
STOPS_WITHIN = 1.2  # seconds of a user's first sound, in which a model that was interrupted falls silent
CAPTION_SECONDS = 4.0  # by which captions may be late before a turn is told of without them
CAPTION_SLACK = 0.3  # seconds by which a word's time and the sound may differ
CAPTION_BEFORE = 1.0  # seconds before a turn in which quiet words may have been said
SENTENCE_ENDS = tuple(".!?…。！？")


@dataclass(frozen=True)
class Turn:
    """What one side says until it pauses.

    begin, end: seconds from the conversation's first frame. text: what was said; "" for a user without captions.
    interrupted: the user spoke into it, and it ended before its sentence did.
    """

    speaker: Speaker
    begin: float
    end: float
    text: str = ""
    interrupted: bool = False

    @property
    def seconds(self) -> float:
        """How long it lasted."""
        return self.end - self.begin


class SpeechDetector:
    """Tells speech from the noise of a room by loudness alone, against a floor that follows the room."""

    def __init__(self) -> None:
        self._floor = 0.0  # dBFS; falls at once to what is quieter

    def hears(self, frame: np.ndarray) -> bool:
        """Return whether a frame, (1920,) float32, is clearly louder than the room."""
        loudness = level(frame)
        self._floor = min(loudness, self._floor + FLOOR_RISE)
        return loudness > max(SILENCE_DB, self._floor + ABOVE_FLOOR)


class TurnTracker:
    """Follows a conversation frame by frame.

    finished: is told of every turn that is over, in the order in which they began.
    captioned: seconds up to which the user's words have been given to `hear`; None if none ever are. A user's turn
    waits for them, but no longer than CAPTION_SECONDS.
    began: is told at once, in `add`, who has begun a turn, and at which second. ended: likewise of every turn that
    is over, without the user's words. A turn of a single sound with words is only told to have ended.
    """

    def __init__(
        self,
        finished: Callable[[Turn], None] = lambda turn: None,
        captioned: Callable[[], float] | None = None,
        began: Callable[[Speaker, float], None] = lambda speaker, seconds: None,
        ended: Callable[[Turn], None] = lambda turn: None,
    ) -> None:
        self._finished, self._captioned, self._began, self._ended = finished, captioned, began, ended
        self._heard: list[Word] = []  # of the user, in no turn yet
        self._detector = SpeechDetector()
        self._frames = 0
        self._over: list[Turn] = []  # and not told yet: another one began before
        self._open: dict[Speaker, _Open] = {"user": _Open("user"), "moshi": _Open("moshi")}

    @property
    def speaking(self) -> tuple[Speaker, ...]:
        """Who speaks at this moment; from any thread."""
        return tuple(speaker for speaker, one in self._open.items() if one.sounds(self._frames))

    @property
    def words(self) -> str:
        """What the model has said so far in the turn at hand."""
        return self._open["moshi"].text.strip()

    @property
    def seconds(self) -> float:
        """How long the conversation has lasted."""
        return self._frames * FRAME_SECONDS

    def add(self, frame: np.ndarray, reply: Reply) -> None:
        """Take a frame of the user, (1920,) float32, and the reply to it."""
        user = self._detector.hears(frame)
        now, moshi = self._frames, self._open["moshi"]
        self._frames += 1
        voiced = bool(reply.text.strip()) or (reply.audio is not None and not is_silent(reply.audio))
        if self._open["user"].add(now, user):
            moshi.spoken_into(now)
            self._began("user", self._open["user"].begin)
        if moshi.add(now, voiced, reply.text):
            self._began("moshi", moshi.begin)
        self._tell(now)

    def wait(self, speaker: Speaker, seconds: float) -> None:
        """From now on let so long a pause end a turn."""
        self._open[speaker].pause = max(1, round(seconds / FRAME_SECONDS))

    def hear(self, word: Word) -> None:
        """Take a word of the user; from any thread."""
        self._heard.append(word)

    def close(self) -> None:
        """Finish the turns at hand: the conversation is over, or begins anew."""
        self._tell(self._frames + max(one.pause for one in self._open.values()), last=True)

    def _tell(self, now: int, last: bool = False) -> None:
        """Tell of the turns that are over, in the order in which they began. last: even without their captions."""
        over = [turn for one in self._open.values() if (turn := one.ended(now))]
        for turn in over:
            self._ended(turn)
        self._over += over
        self._over.sort(key=lambda turn: turn.begin)
        begun = min((one.begin for one in self._open.values()), default=math.inf)
        while self._over and self._over[0].begin <= begun and (last or not self._awaited(self._over[0], now)):
            self._finished(self._with_words(self._over.pop(0)))

    def _awaited(self, turn: Turn, now: int) -> bool:
        """Return whether words of a turn may still come."""
        if turn.speaker == "moshi" or self._captioned is None:
            return False
        late = now * FRAME_SECONDS - turn.end > CAPTION_SECONDS
        return not late and self._captioned() < turn.end + CAPTION_SLACK

    def _with_words(self, turn: Turn) -> Turn:
        """Return a user's turn with the words that begin in it, or where the loudness alone heard nothing."""
        if turn.speaker == "moshi" or self._captioned is None:
            return turn
        heard = [word for word in self._heard if word.start < turn.end + CAPTION_SLACK]
        del self._heard[: len(heard)]
        mine = [word.text for word in heard if word.start >= turn.begin - CAPTION_BEFORE]
        return replace(turn, text=" ".join(mine))


_PAUSE_FRAMES = round(PAUSE / FRAME_SECONDS)
_GAP_FRAMES = 3  # without sound, between words


class _Open:
    """The turn at hand of one side, if it has one."""

    def __init__(self, speaker: Speaker) -> None:
        self._speaker: Speaker = speaker
        self.pause = _PAUSE_FRAMES
        self._clear()

    def _clear(self) -> None:
        self.text = ""
        self._first = self._last = -1  # frames with sound
        self._sounding = 0
        self._into = -1  # the frame at which the user began to speak into it

    @property
    def begin(self) -> float:
        """Seconds; infinite while there is none."""
        return self._first * FRAME_SECONDS if self._first >= 0 else math.inf

    def sounds(self, now: int) -> bool:
        return self._sounding >= SHORTEST and now - self._last <= _GAP_FRAMES

    def add(self, now: int, voiced: bool, text: str = "") -> bool:
        """Take one frame. Returns whether the turn has begun with it for certain."""
        if text.strip() or self.text:
            self.text += text
        if not voiced:
            return False
        if self._first < 0:
            self._first = now
        self._last = now
        self._sounding += 1
        return self._sounding == SHORTEST

    def spoken_into(self, now: int) -> None:
        if self.sounds(now):
            self._into = now

    def ended(self, now: int) -> Turn | None:
        """Return the turn once its pause is over; a click is no turn."""
        if self._first < 0 or now - self._last < self.pause:
            return None
        text = self.text.strip()
        turn = Turn(self._speaker, self._first * FRAME_SECONDS, (self._last + 1) * FRAME_SECONDS, text)
        if self._into >= 0 and (self._last - self._into) * FRAME_SECONDS <= STOPS_WITHIN:
            turn = replace(turn, interrupted=not text.endswith(SENTENCE_ENDS))
        real = self._sounding >= SHORTEST or text
        self._clear()
        return turn if real else None
