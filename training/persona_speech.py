"""What `nano-persona` says, as codes: its answers with their words, and how a microphone hears them.

Made once with the finished codebooks, and kept in the work folder.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training import augment, persona_text, speech_codes
from training.codec import Codec, folded
from training.persona_text import VOICES, key, said
from training.speech_codes import Answer, echo
from training.text import word_frames

ECHOES = 3  # of every answer


@dataclass(frozen=True)
class Speech:
    """answers, echoes: by `persona_text.key`, what is said, and as a microphone hears it, [8, frames] each."""

    answers: dict[str, Answer]
    echoes: dict[str, list[np.ndarray]]


def load(folder: Path, codec: Codec) -> Speech:
    """Read it, or make it first (half a minute)."""
    path = folder / "persona-echoes.npz"
    if not path.exists():
        speech_codes.save_codes(path, _heard(codec))
    with np.load(path) as stored:
        echoes = {name: stored[name] for name in stored.files}
    return speech(speech_codes.persona_codes(folder, codec), echoes)


def speech(codes: dict[str, np.ndarray], echoes: dict[str, np.ndarray]) -> Speech:
    """Answers by `persona_text.key`, [8, frames] each, and what is heard of them, by `echo_key`."""
    answers = {
        key(voice, text): Answer(codes[key(voice, text)], word_frames(text, VOICES[voice].name))
        for voice in VOICES
        for text in said()
    }
    return Speech(
        answers, {name: [echoes[echo_key(name, number)] for number in range(ECHOES)] for name in answers}
    )


def echo_key(name: str, number: int) -> str:
    """Under which an echo is kept. name: `persona_text.key`."""
    return f"{name} {number}"


def _heard(codec: Codec) -> dict[str, np.ndarray]:
    """Every answer as it comes from a loudspeaker near by: later, fainter, with some noise."""
    rng, ears = np.random.default_rng(33), folded(codec)

    def noisy(pcm: np.ndarray) -> np.ndarray:
        return pcm + 10 ** (rng.uniform(-75, -45) / 20) * augment.noise(rng, len(pcm))

    heard = {}
    for name, stream in persona_text.streams().items():
        for number in range(ECHOES):
            heard[echo_key(name, number)] = echo(ears, rng, stream, noisy)
    return heard
