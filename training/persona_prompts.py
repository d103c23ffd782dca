"""What comes before a conversation with `nano-persona`, as codes: a voice, a text between its tags, and silences.

Its frames are those that the package itself makes of prompts (`moshi_mlx.tasks.persona`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from moshi_mlx.models.config import LmConfig
from moshi_mlx.tasks.persona import build
from training.persona_text import MANNERS, NAMES, VOICES, Persona, key, said
from training.persona_words import prompt_tokens

if TYPE_CHECKING:
    from training.speech_codes import Said

SHORTEST, LONGEST = 12, 28  # frames of a voice prompt
RECORDED = 0.3  # of the voice prompts are recordings in some room, the others are what it says itself
WITHOUT_VOICE, WITHOUT_TEXT, WITHOUT_BOTH = 0.05, 0.05, 0.04
NOBODY = Persona(NAMES[0], MANNERS[1], next(iter(VOICES)))
"""Who it is as far as nobody says who."""


@dataclass(frozen=True)
class Steady:
    """What does not change in a prompt, as `moshi_mlx.tasks.persona.steady_codes`: quiet, tone: [8] each."""

    quiet: np.ndarray
    tone: np.ndarray


class Prompts:
    """Endless prompts.

    answers: its own, by `persona_text.key`, [8, frames] each. recorded: what people say; that of its two voices is
    used.
    """

    def __init__(
        self, config: LmConfig, steady: Steady, answers: Mapping[str, np.ndarray], recorded: Iterable[Said]
    ) -> None:
        self._config, self._steady, self._answers = config, steady, answers
        self._recorded: dict[str, list[Said]] = {name: [] for name in VOICES}
        names = {str(voice): name for name, voice in VOICES.items()}
        for one in recorded:
            if one.voice in names and one.end - one.begin >= SHORTEST:
                self._recorded[names[one.voice]].append(one)

    def drawn(self, rng: np.random.Generator) -> tuple[Persona, np.ndarray]:
        """Somebody, and the frames [17, frames] that say so; none where nobody is asked for."""
        persona = Persona(*(str(rng.choice([*some])) for some in (NAMES, MANNERS, VOICES)))
        chance = rng.random()
        if chance < WITHOUT_BOTH:
            return NOBODY, np.zeros((1 + self._config.n_q, 0), np.int64)
        if chance < WITHOUT_BOTH + WITHOUT_VOICE:
            persona = Persona(persona.name, persona.manner, NOBODY.voice)
            return persona, self.frames(persona.prompt, None)
        voice = self._voice(rng, persona.voice)
        if chance < WITHOUT_BOTH + WITHOUT_VOICE + WITHOUT_TEXT:
            return Persona(NOBODY.name, NOBODY.manner, persona.voice), self.frames("", voice)
        return persona, self.frames(persona.prompt, voice)

    def frames(self, text: str, voice: np.ndarray | None) -> np.ndarray:
        """The frames that stand in a window, [17, frames]: all but the first, which the model never reads.

        text: of the prompt, "" for none. voice: [8, frames].
        """
        tokens = prompt_tokens(text) if text else []
        codes = None if voice is None else voice.T.astype(np.int32)
        prompt = build(self._config, tokens, codes, self._steady.quiet, self._steady.tone)
        prompt.check(self._config)
        return np.concatenate([prompt.texts[:, None], prompt.codes, prompt.user_codes], axis=1).T[:, 1:]

    def _voice(self, rng: np.random.Generator, name: str) -> np.ndarray:
        """Some seconds of one of the two voices, [8, SHORTEST to LONGEST]."""
        length = int(rng.integers(SHORTEST, LONGEST + 1))
        if (recorded := self._recorded[name]) and rng.random() < RECORDED:
            one = recorded[rng.integers(len(recorded))]
            return one.codes[:, one.begin : one.end][:, :length]
        pieces: list[np.ndarray] = []
        while sum(piece.shape[1] for piece in pieces) < length:
            text = said()[rng.integers(len(said()))]
            pause = np.tile(self._steady.quiet[:, None], int(rng.integers(2, 6)))
            pieces += [self._answers[key(name, text)], pause]
        return np.concatenate(pieces, axis=1)[:, :length]
