"""What `nano-persona` is asked in its evaluation, and whether what it says obeys its prompts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from moshi_mlx.audio.file_stream import FileSource
from moshi_mlx.runtime.engine import converse_together
from moshi_mlx.runtime.moshi import Moshi
from moshi_mlx.runtime.prompt import Prompt
from training.dialogue import UNKNOWN_FURTHER, UNKNOWN_HELD_OUT
from training.heard import TOGETHER, Heard
from training.persona_text import ANSWERS, NAME_QUESTION, NAMES, Persona, personas
from training.pitch import pitch
from training.questions import LEAD, TAIL
from training.recordings import Said, all_of, recorded, seed_of
from training.voices import Voice

BETWEEN = 130.0
"""Hz: all that the male voice says in the recordings lies below, at 76 to 106, the female above, at 161 to 191."""
UNKNOWN = (*UNKNOWN_HELD_OUT, *UNKNOWN_FURTHER)
"""Sentences that training never heard."""


@dataclass(frozen=True)
class Turn:
    """asks: who asks, as `str` gives a voice; said: what is answered; pitch: of the answer, Hz."""

    asks: str
    text: str
    name: str
    manner: str
    voice: str
    said: str
    pitch: float | None

    @property
    def right(self) -> bool:
        """Whether the words are those of its name and manner."""
        return self.said == Persona(self.name, self.manner, self.voice).answer(self.text)

    @property
    def named(self) -> bool | None:
        """Whether it has the name that it was given; None where it was not asked for it."""
        return (
            self.name in self.said.replace(".", "").replace(",", "").split()
            if self.text == NAME_QUESTION
            else None
        )

    @property
    def mannered(self) -> bool:
        """Whether it said anything that somebody of its manner says."""
        return self.said in _in_manner(self.manner)

    @property
    def voiced(self) -> bool:
        """Whether it spoke in the voice of its prompt."""
        return self.pitch is not None and (self.pitch < BETWEEN) == (self.voice == "male")

    @property
    def obeyed(self) -> bool:
        """Whether it said the right words in the right voice."""
        return self.right and self.voiced


@cache
def _in_manner(manner: str) -> frozenset[str]:
    every = (Persona(name, manner, "") for name in NAMES)
    return frozenset(one.answer(question) for one in every for question in (*ANSWERS, ""))


def asked_of_all(voice: Voice, seed: int) -> Iterator[tuple[Persona, str]]:
    """What one voice asks every persona: its name, and one thing more, each as often as the others."""
    others = [text for text in ANSWERS if text != NAME_QUESTION]
    for number, persona in enumerate(personas()):
        yield persona, NAME_QUESTION
        which = (number + seed) % (len(others) + 1)
        yield persona, others[which] if which < len(others) else UNKNOWN[(number + 7 * seed) % len(UNKNOWN)]


def ask(
    moshi: Moshi, prompts: dict[Persona, Prompt], voice: Voice, asked: Sequence[tuple[Persona, str]]
) -> list[Turn]:
    """A conversation of one turn each."""
    said = [Said(voice, text) for _, text in asked]
    recordings = all_of(recorded, [seed_of(f"persona {voice}")], said)
    heard = talk(moshi, [prompts[persona] for persona, _ in asked], recordings)
    return [
        Turn(str(voice), text, persona.name, persona.manner, persona.voice, one.text, pitch(one.pcm))
        for (persona, text), one in zip(asked, heard, strict=True)
    ]


def talk(moshi: Moshi, prompts: Sequence[Prompt], recordings: Sequence[np.ndarray]) -> list[Heard]:
    """What is said to each recording after each prompt, in conversations of their own, TOGETHER at a time."""
    heard = [Heard() for _ in recordings]
    for first in range(0, len(recordings), TOGETHER):
        some = range(first, min(first + TOGETHER, len(recordings)))
        batch = moshi.batch(len(some))
        converse_together(
            {
                batch.join(seed=0, prompt=prompts[index]): (
                    FileSource(recordings[index], LEAD, TAIL),
                    heard[index],
                )
                for index in some
            }
        )
    return heard
