"""What is heard and said in a conversation, as codes."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from training.voices import kind_of

FORGET_FRAMES = 14  # what the codec hears before anything is kept


@dataclass(frozen=True)
class Answer:
    """What Nano says. codes: [8, frames], beginning with the first sound; words: (frame, word)."""

    codes: np.ndarray
    words: list[tuple[int, str]]


@dataclass(frozen=True)
class Said:
    """What a person says, in a room. codes: [8, frames]; speech lasts from frame `begin` up to frame `end`."""

    voice: str
    text: str
    room: int
    begin: int
    end: int
    codes: np.ndarray


@dataclass(frozen=True)
class SpeechCodes:
    """silence: [8]; echoes: an answer's text to [8, frames] each.

    rooms: [ROOMS, 8, FORGET_FRAMES + ROOM_FRAMES], each from the very start of a stream. asides: what is said or
    played to nobody, [8, ASIDE_FRAMES] each.
    """

    silence: np.ndarray
    answers: dict[str, Answer]
    rooms: np.ndarray
    said: list[Said]
    bumps: list[Said]
    asides: list[np.ndarray]
    echoes: dict[str, list[np.ndarray]]

    @cached_property
    def by_text(self) -> dict[str, list[list[Said]]]:
        """Every sentence, as it was said by voices of each kind that said it."""
        found: dict[str, dict[int, list[Said]]] = {}
        for said in self.said:
            found.setdefault(said.text, {}).setdefault(kind_of(said.voice), []).append(said)
        return {text: [kinds[kind] for kind in sorted(kinds)] for text, kinds in found.items()}
