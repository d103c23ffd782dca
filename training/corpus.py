"""The recordings that everything is trained on: every voice says every sentence, at its own pace.

Kept as one array of samples in the work folder; made once.
"""

import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from training.align import aligned
from training.dialogue import FILLERS, KNOWN, UNKNOWN
from training.voices import (
    LABEL_RATE,
    MODEL_VOICE,
    SAMPLE_RATE,
    TRAINING_VOICES,
    Utterance,
    Voice,
    is_human,
    speak,
)

TAKES = {"espeak": 3, "festival": 5, "flite": 16, "pico": 16, "rhvoice": 12}
"""Of every known sentence: voices made of recordings do not repeat themselves as rules do. (festival is slow.)"""
LABEL_SAMPLES = SAMPLE_RATE // LABEL_RATE
_TELLS_PHONES = {
    "festival": Voice("flite", "kal"),
    "pico": Voice("flite", "rms"),
    "rhvoice": Voice("flite", "rms"),
}
"""Who says the same for voices whose phones are not known."""


@dataclass(frozen=True)
class Corpus:
    """Utterances end to end. pcm: int16 at 24 kHz; labels: phones, one per 240 samples of the same line."""

    pcm: np.ndarray
    labels: np.ndarray
    starts: np.ndarray  # the label at which each utterance begins, and the end of the last one
    texts: list[str]
    voices: list[str]

    def __len__(self) -> int:
        return len(self.texts)

    def any(self, rng: np.random.Generator) -> int:
        """The number of a recording: half of them from the few voices that sound more human, evenly."""
        kind = self._kinds[rng.integers(2)]
        numbers = kind[rng.integers(len(kind))]
        return numbers[rng.integers(len(numbers))]

    @cached_property
    def _kinds(self) -> list[list[list[int]]]:
        """The numbers of every voice's recordings, of the more human voices and of the others."""
        kinds: list[dict[str, list[int]]] = [{}, {}]
        for number, voice in enumerate(self.voices):
            kinds[not is_human(voice)].setdefault(voice, []).append(number)
        return [list(kind.values()) for kind in kinds]

    def utterance(self, index: int) -> Utterance:
        """One recording, its peak at 0.5."""
        begin, end = self.starts[index], self.starts[index + 1]
        pcm = self.pcm[begin * LABEL_SAMPLES : end * LABEL_SAMPLES].astype(np.float32) / 32768
        return Utterance(pcm, self.labels[begin:end])


def load(folder: Path) -> Corpus:
    """Read the corpus, or make it first (a minute or two)."""
    path = folder / "corpus.npz"
    if not path.exists():
        _make(path)
    with np.load(path) as stored:
        return Corpus(
            stored["pcm"], stored["labels"], stored["starts"], stored["texts"].tolist(), stored["voices"].tolist()
        )


def _make(path: Path) -> None:
    said: list[tuple[str, str, Utterance]] = []
    with ProcessPoolExecutor(os.cpu_count()) as workers:
        for number, takes in enumerate(workers.map(_takes, range(len(TRAINING_VOICES)))):
            voice = TRAINING_VOICES[number]
            print(f"corpus: {voice} ({number + 1} of {len(TRAINING_VOICES)})", flush=True)
            said += [(str(voice), text, utterance) for text, utterance in takes]
    lengths = [len(utterance.labels) for *_, utterance in said]
    starts = np.concatenate([[0], np.cumsum(lengths)])
    pcm = np.zeros(starts[-1] * LABEL_SAMPLES, np.int16)
    for (*_, utterance), start in zip(said, starts[:-1], strict=True):
        first = start * LABEL_SAMPLES
        pcm[first : first + len(utterance.pcm)] = np.round(utterance.pcm * 32767)
    np.savez(
        path,
        pcm=pcm,
        labels=np.concatenate([utterance.labels for *_, utterance in said]),
        starts=starts,
        texts=np.array([text for _, text, _ in said]),
        voices=np.array([voice for voice, *_ in said]),
    )


def _takes(number: int) -> list[tuple[str, Utterance]]:
    """All that one training voice says, each time at another pace and pitch."""
    voice, rng = TRAINING_VOICES[number], np.random.default_rng([20, number])
    takes = TAKES[voice.engine]
    said = []
    for text in (*KNOWN * takes, *UNKNOWN * (1 + takes // 8), *FILLERS):
        speed, pitch = np.exp(rng.uniform(-0.16, 0.16)), np.exp(rng.uniform(-0.2, 0.2))
        said.append((text, labelled(voice, text, float(speed), float(pitch))))
    return said


def labelled(voice: Voice, text: str, speed: float, pitch: float) -> Utterance:
    """As `speak`, with phones for every voice."""
    utterance = speak(voice, text, speed, pitch)
    if teller := _TELLS_PHONES.get(voice.engine):
        return replace(utterance, labels=aligned(utterance.pcm, speak(teller, text, speed)))
    return utterance


def model_utterance(text: str) -> Utterance:
    """`text` in Nano's own voice, at its normal pace: the same samples every time."""
    return speak(MODEL_VOICE, text)
