"""The recordings that everything is trained on: every voice says every sentence, at its own pace.

Kept as one array of samples in the work folder; made once.
"""

import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from moshi_mlx.weights.atomic import AtomicPath
from training.align import aligned
from training.conversion import converted
from training.dialogue import FILLERS, KNOWN, UNKNOWN
from training.sentences import strange
from training.voices import (
    LABEL_RATE,
    MIXED,
    MODEL_VOICE,
    SAMPLE_RATE,
    TRAINING_VOICES,
    Utterance,
    Voice,
    blended,
    is_human,
    kind_of,
    speak,
)

TAKES = {
    "accent": 12, "espeak": 3, "festival": 5, "flite": 16, "foreign": 4, "kokoro": 1, "pico": 16, "rhvoice": 12,
}  # fmt: skip
"""Of every known sentence: voices made of recordings do not repeat themselves as rules do. (festival is slow.)"""
SHARE = {"kokoro": (0.5, 0.06)}
"""Of the sentences, known and others, that a voice says, where not all of them: one of Kokoro's takes a second."""
STRANGE = {
    "accent": 60, "espeak": 30, "festival": 90, "flite": 90, "foreign": 30, "kokoro": 4, "pico": 90, "rhvoice": 90,
}  # fmt: skip
"""Sentences of a voice's own that Nano does not know."""
MIXTURES = {"known": 160, "unknown": 16, "strange": 1}
"""Of every sentence, by speakers that are made of two others; of a strange one, which nobody else says, of one."""
LABEL_SAMPLES = SAMPLE_RATE // LABEL_RATE
_TELLS_PHONES = {
    "festival": Voice("flite", "kal"),
    "foreign": Voice("flite", "rms"),
    "kokoro": Voice("flite", "rms"),
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
        """The number of a recording: as many of them from every kind of voices, and of these from every voice."""
        kind = self._kinds[rng.integers(len(self._kinds))]
        numbers = kind[rng.integers(len(kind))]
        return numbers[rng.integers(len(numbers))]

    @cached_property
    def _kinds(self) -> list[list[list[int]]]:
        """The numbers of every voice's recordings, by the kind of the voice."""
        kinds: dict[int, dict[str, list[int]]] = {}
        for number, voice in enumerate(self.voices):
            kinds.setdefault(kind_of(voice), {}).setdefault(voice, []).append(number)
        return [list(kinds[kind].values()) for kind in sorted(kinds)]

    def utterance(self, index: int) -> Utterance:
        """One recording, its peak at 0.5."""
        begin, end = self.starts[index], self.starts[index + 1]
        pcm = self.pcm[begin * LABEL_SAMPLES : end * LABEL_SAMPLES].astype(np.float32) / 32768
        return Utterance(pcm, self.labels[begin:end])


def load(folder: Path) -> Corpus:
    """Read the corpus, or make it first (a quarter of an hour); a voice that has spoken need not do so again."""
    path = folder / "corpus.npz"
    if not path.exists():
        said = _speak_all(folder / "corpus")
        _write(path, said + _mixtures(said))
    return _read(path)


def _read(path: Path) -> Corpus:
    with np.load(path) as stored:
        return Corpus(
            stored["pcm"], stored["labels"], stored["starts"], stored["texts"].tolist(), stored["voices"].tolist()
        )


def _write(path: Path, said: list[tuple[str, str, Utterance]]) -> None:
    lengths = [len(utterance.labels) for *_, utterance in said]
    starts = np.concatenate([[0], np.cumsum(lengths)])
    pcm = np.zeros(starts[-1] * LABEL_SAMPLES, np.int16)
    for (*_, utterance), start in zip(said, starts[:-1], strict=True):
        first = start * LABEL_SAMPLES
        pcm[first : first + len(utterance.pcm)] = np.round(utterance.pcm * 32767)
    with AtomicPath(path) as part, part.open("wb") as file:
        np.savez(
            file,
            pcm=pcm,
            labels=np.concatenate([utterance.labels for *_, utterance in said]),
            starts=starts,
            texts=np.array([text for _, text, _ in said]),
            voices=np.array([voice for voice, *_ in said]),
        )


def _speak_all(folder: Path) -> list[tuple[str, str, Utterance]]:
    """What every training voice says: (voice, text, utterance)."""
    folder.mkdir(parents=True, exist_ok=True)
    said = []
    with ProcessPoolExecutor(2 * (os.cpu_count() or 1)) as workers:  # synthesizers wait as much as they compute
        for path in workers.map(_voice, [folder] * len(TRAINING_VOICES), range(len(TRAINING_VOICES))):
            print(f"corpus: {path.stem} of {len(TRAINING_VOICES)} voices", flush=True)
            spoken = _read(path)
            said += [
                (*names, spoken.utterance(i))
                for i, names in enumerate(zip(spoken.voices, spoken.texts, strict=True))
            ]
    return said


def _voice(folder: Path, number: int) -> Path:
    """The file of all that one training voice says."""
    path = folder / f"{number + 1:02}.npz"
    if not path.exists():
        _write(path, _takes(number))
    return path


def _takes(number: int) -> list[tuple[str, str, Utterance]]:
    """All that one training voice says, each time at another pace and pitch: (voice, text, utterance)."""
    voice, rng = TRAINING_VOICES[number], np.random.default_rng([20, number])
    takes = TAKES[voice.engine]
    said = []
    own = [strange(rng) for _ in range(STRANGE[voice.engine])]
    known, others = KNOWN * takes, (*UNKNOWN * (1 + takes // 8), *FILLERS)
    if shares := SHARE.get(voice.engine):
        known, others = (
            [text for text in texts if rng.random() < share]
            for texts, share in zip((known, others), shares, strict=True)
        )
    for text in (*known, *others, *own):
        speed, pitch = np.exp(rng.uniform(-0.16, 0.16)), np.exp(rng.uniform(-0.2, 0.2))
        speaker = blended(rng, voice)
        said.append((str(speaker), text, labelled(speaker, text, float(speed), float(pitch))))
    return said


def _mixtures(said: list[tuple[str, str, Utterance]]) -> list[tuple[str, str, Utterance]]:
    """Everything once more by speakers that no synthesizer has."""
    global _heard
    by_text: dict[str, list[int]] = {}
    for number, (_, text, _) in enumerate(said):
        by_text.setdefault(text, []).append(number)
    _heard = said
    jobs = []
    for text, numbers in by_text.items():
        kind = "known" if text in KNOWN else "unknown" if text in UNKNOWN or text in FILLERS else "strange"
        jobs += [(len(jobs) + index, numbers) for index in range(MIXTURES[kind])]
    with ProcessPoolExecutor(os.cpu_count(), get_context("fork")) as workers:
        made = []
        for one in workers.map(_mixture, jobs, chunksize=32):
            made.append(one)
            if len(made) % 1000 == 0:
                print(f"corpus: {len(made)} of {len(jobs)} mixtures", flush=True)
    return made


_heard: list[tuple[str, str, Utterance]] = []


def _mixture(job: tuple[int, list[int]]) -> tuple[str, str, Utterance]:
    """One sentence by one voice with the vocal tract of another, of another size; one of the two is human."""
    rng = np.random.default_rng([21, job[0]])
    by_kind = [[number for number in job[1] if is_human(_heard[number][0]) == human] for human in (True, False)]
    some = [numbers for numbers in by_kind if numbers]

    def one(kind: int) -> int:  # of the voices of a kind evenly
        numbers = some[min(kind, len(some) - 1)]
        voices = sorted({_heard[number][0] for number in numbers})
        voice = voices[rng.integers(len(voices))]
        own = [number for number in numbers if _heard[number][0] == voice]
        return own[rng.integers(len(own))]

    kinds = [(0, 0), (0, 1), (1, 0), (0, None), (1, None)][rng.choice(5, p=[0.35, 0.1, 0.25, 0.2, 0.1])]
    source = _heard[one(kinds[0])]
    other = source if kinds[1] is None else _heard[one(kinds[1])]
    formants = float(np.exp(rng.uniform(-0.17, 0.17)))
    pcm = converted(source[2].pcm, other[2].pcm, formants, float(rng.uniform(0.6, 1.0)))
    return MIXED, source[1], Utterance(pcm, source[2].labels)


def labelled(voice: Voice, text: str, speed: float, pitch: float) -> Utterance:
    """As `speak`, with phones for every voice."""
    utterance = speak(voice, text, speed, pitch)
    if teller := _TELLS_PHONES.get(voice.engine):
        return replace(utterance, labels=aligned(utterance.pcm, speak(teller, text, speed)))
    return utterance


def model_utterance(text: str) -> Utterance:
    """`text` in Nano's own voice, at its normal pace: the same samples every time."""
    return speak(MODEL_VOICE, text)
