"""Conversations with `nano-persona` made of codes: its prompts, and then turns as Nano has them.

What it says follows from its prompts: the name, the manner, the voice.
"""

from dataclasses import dataclass, replace

import numpy as np

from training.dialogue import ANSWERS as NANO_ANSWERS
from training.dialogue import UNKNOWN_ANSWER
from training.persona_prompts import Prompts
from training.persona_speech import Speech
from training.persona_text import ANSWERS, NAME_QUESTION, Persona, key
from training.persona_words import token_ids
from training.turns import Turns, Window
from training.utterances import Answer, Said, SpeechCodes

AHEAD = 2
"""Frames by which words come before their sound. Or else the model learns to write the name that it has just heard
itself begin to say, where only its prompt can tell."""
NAMED = 0.5  # of the questions ask for its name: nothing else teaches that


@dataclass(frozen=True)
class PersonaWindow(Window):
    """known: how many of the first frames are prompts."""

    known: int
    persona: Persona


class PersonaTurns(Turns):
    """Endless conversations, each with somebody else."""

    token_ids = staticmethod(token_ids)

    def __init__(self, codes: SpeechCodes, speech: Speech, prompts: Prompts, rng: np.random.Generator) -> None:
        super().__init__(codes, rng)
        self._heard, self._speech, self._prompts = codes, speech, prompts
        by_text = {_text(kinds): kinds for kinds in self.questions}
        self._naming = [by_text[NAME_QUESTION]]
        self.questions = [kinds for text, kinds in by_text.items() if text in ANSWERS and text != NAME_QUESTION]
        self.unknown = [*self.unknown, *(kinds for text, kinds in by_text.items() if text not in ANSWERS)]

    def window(self, frames: int) -> PersonaWindow:
        """One conversation of `frames` frames, its prompts included."""
        persona, prompt = self._prompts.drawn(self.rng)
        self.codes = self._as(persona)
        known = prompt.shape[1]
        talk = super().window(frames - known)
        nothing = np.zeros(known, bool)
        others = (np.concatenate([nothing, one]) for one in talk.marks)
        codes = np.concatenate([prompt, talk.codes], axis=1)
        return PersonaWindow(codes, *others, known=known, persona=persona)

    def _as(self, persona: Persona) -> SpeechCodes:
        """All codes with those of a persona's answers in place of Nano's, under the texts of the latter."""
        keys = {text: key(persona.voice, persona.answer(question)) for question, text in NANO_ANSWERS.items()}
        keys[UNKNOWN_ANSWER] = key(persona.voice, persona.answer(""))
        silence = self._heard.silence
        answers = {text: self._speech.answers[name] for text, name in keys.items()}
        return replace(
            self._heard,
            answers={text: Answer(_late(one.codes, silence), one.words) for text, one in answers.items()},
            echoes={
                text: [_late(echo, echo[:, 0]) for echo in self._speech.echoes[name]]
                for text, name in keys.items()
            },
        )

    def _question(self) -> Said:
        return self._said(self._naming if self.rng.random() < NAMED else self.questions)


def _late(codes: np.ndarray, before: np.ndarray) -> np.ndarray:
    return np.concatenate([np.repeat(before[:, None], AHEAD, 1), codes], axis=1)


def _text(kinds: list[list[Said]]) -> str:
    return kinds[0][0].text
