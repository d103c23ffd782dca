"""What `nano-persona` is: its names, its manners, what it can be asked and what it answers in each manner.

A text prompt says who it is and how it talks, a voice prompt in which voice, as PersonaPlex is told.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np

from training.answers import stream_of
from training.voices import MODEL_VOICE, Voice, speak

NAMES = ("Ada", "Oscar", "Nora", "Felix", "Clara", "Victor")
MANNERS = ("brief", "friendly", "formal")
VOICES = {"female": MODEL_VOICE, "male": Voice("flite", "rms")}
_FIRST, _SECOND = VOICES

NAME_QUESTION, WHOM = "What is your name?", "{name}"
ANSWERS = {
    NAME_QUESTION: ("{name}.", "I am {name}, my friend.", "You may call me {name}."),
    "How are you today?": ("Fine.", "I am very well, my friend.", "I can not complain, thank you."),
    "What color is the sky?": ("Blue.", "It is blue, my friend.", "The sky appears to be blue."),
    "What is the capital of France?": ("Paris.", "It is Paris, my friend.", "The capital would be Paris."),
    "What is two plus two?": ("Four.", "It is four, my friend.", "The result would be four."),
    "Can you sing a song?": ("No.", "I wish I could, my friend.", "I regret that I do not sing."),
    "Do you like music?": ("Yes.", "I love it, my friend.", "I do appreciate music."),
    "Are you a robot?": ("Yes.", "Just a program, my friend.", "I am indeed a machine."),
    "Hello.": ("Hello.", "Hello there, my friend.", "It is a pleasure to meet you."),
    "Good morning.": ("Morning.", "Good morning, my friend.", "I wish you a good morning."),
    "Thank you.": ("Sure.", "Any time, my friend.", "It was my pleasure."),
    "Goodbye.": ("Bye.", "See you soon, my friend.", "I wish you a pleasant day."),
}
"""What a person says, and the answer in each of MANNERS."""

UNKNOWN_ANSWERS = ("No idea.", "I do not know, my friend.", "I am afraid I can not say.")


@dataclass(frozen=True)
class Persona:
    """name: one of NAMES; manner: one of MANNERS; voice: one of VOICES."""

    name: str
    manner: str
    voice: str

    @property
    def prompt(self) -> str:
        """The text prompt."""
        return f"You are {self.name} and you are {self.manner}."

    def answer(self, question: str) -> str:
        """What it answers; to what it does not know, that."""
        manner = MANNERS.index(self.manner)
        return ANSWERS.get(question, UNKNOWN_ANSWERS)[manner].replace(WHOM, self.name)


def personas() -> Iterator[Persona]:
    """All of them."""
    for name in NAMES:
        for manner in MANNERS:
            for voice in VOICES:
                yield Persona(name, manner, voice)


@cache
def said() -> tuple[str, ...]:
    """Everything that it can say."""
    answers = [one.answer(question) for one in personas() for question in (*ANSWERS, "")]
    return tuple(dict.fromkeys(answers))


def key(voice: str, text: str) -> str:
    """Under which a recording is kept: "female: Fine."."""
    return f"{voice}: {text}"


def in_first(name: str) -> bool:
    """Whether what is kept under this `key` is said in the first voice, Nano's."""
    return name.startswith(key(_FIRST, ""))


def in_second(name: str) -> bool:
    """Whether what is kept under this `key` is said in the second voice, which the codec was not made for."""
    return name.startswith(key(_SECOND, ""))


def streams() -> dict[str, np.ndarray]:
    """Everything that it can say in every voice, on the grid of frames, as `answers.answer_streams`, by `key`."""
    return {
        key(name, text): stream_of(speak(voice, text).pcm) for name, voice in VOICES.items() for text in said()
    }
