"""Answers of a model to scenes, in the benchmark's folders: `output.wav` and, time-aligned, `output.json`.

Source: DanielLin94144/Full-Duplex-Bench, v1_v1.5/get_transcript/asr.py, for the layout.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from moshi_mlx.audio.files import Audio, read_audio
from moshi_mlx.audio.wav import pcm16
from moshi_mlx.errors import AudioFileError, DataError
from moshi_mlx.frames import FRAME_SAMPLES, FRAME_SECONDS, SAMPLE_RATE, is_silent
from moshi_mlx.models.config_reader import read_json, shown
from moshi_mlx.quality.behaviour.scene import INPUT, INTERRUPTION, Scene, write_json
from moshi_mlx.quality.behaviour.takeover import words_after
from moshi_mlx.quality.behaviour.voice import RATE
from moshi_mlx.tasks.words import Word
from moshi_mlx.weights.atomic import AtomicPath

VOICE, WORDS = "output.wav", "output.json"


@dataclass(frozen=True)
class Answer:
    """What a model said in a scene, from its first sample to its last.

    pcm: (samples,) float32 at 16 kHz, which the voice detector hears. words: by their starts; an end is NaN where
    it is not known. note: what a person should know of it, or "".
    """

    pcm: np.ndarray
    words: tuple[Word, ...]
    note: str = ""

    @property
    def seconds(self) -> float:
        """Its length."""
        return len(self.pcm) / RATE


def write_answer(scene: Scene, folder: str | Path, pcm: np.ndarray, words: Sequence[Word]) -> None:
    """Write a model's answer beside the scene's own files, which are copied, so that the scripts find all.

    pcm: (samples,) float32 at 24 kHz, simultaneous with input.wav. It is written at 16 kHz: the script for
    backchannels takes any file for one of that rate. `output.json` comes last: where it is, the sample is whole.
    Raises DataError or AudioFileError where the system refuses.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if scene.folder and scene.folder.resolve() != folder.resolve():
            for name in (INPUT, *_beside(scene.folder)):
                shutil.copyfile(scene.folder / name, folder / name)
    except OSError as error:
        raise DataError(f"cannot write {folder}: {error.strerror or error}") from error
    write_voice(folder / VOICE, pcm)
    write_json(folder / WORDS, transcript(scene, words))


def transcript(scene: Scene, words: Sequence[Word]) -> dict[str, Any]:
    """Return what `output.json` holds; of an interruption only what is said after it, as the benchmark has it."""
    if scene.task == INTERRUPTION and scene.interruption:
        words = words_after(words, scene.interruption[1])
    chunks = [{"text": word.text, "timestamp": [round(word.start, 3), round(word.end, 3)]} for word in words]
    return {"text": " ".join(word.text for word in words), "chunks": chunks}


def write_voice(path: Path, pcm: np.ndarray) -> None:
    """Write audio, (samples,) float32 at 24 kHz, as 16 bits at 16 kHz. Raises AudioFileError."""
    import soundfile

    with AtomicPath(path, AudioFileError) as part:
        soundfile.write(part, pcm16(at_16_khz(pcm)), RATE, format="WAV", subtype="PCM_16")


def at_16_khz(pcm: np.ndarray) -> np.ndarray:
    """Return audio, (samples,) float32 at 24 kHz, at 16 kHz: two samples for three, rounded up."""
    import soxr

    wanted = -(-len(pcm) * RATE // SAMPLE_RATE)
    found = soxr.resample(np.asarray(pcm, np.float32), SAMPLE_RATE, RATE, quality="VHQ")[:wanted]
    return np.pad(found, (0, wanted - len(found)))


def is_answered(folder: Path) -> bool:
    """Return whether a folder holds an answer."""
    return (folder / WORDS).is_file() and (folder / VOICE).is_file()


def read_answer(folder: str | Path) -> Answer:
    """Read an answer, ours or anybody's. Raises DataError or AudioFileError, in one line."""
    folder = Path(folder)
    audio = read_audio(folder / VOICE)
    note = f"{VOICE} has {audio.rate} Hz, which the benchmark's script takes for {RATE}"
    return Answer(voice_at_16_khz(folder / VOICE, audio), read_words(folder / WORDS), note * (audio.rate != RATE))


def voice_at_16_khz(path: Path, audio: Audio | None = None) -> np.ndarray:
    """Read a recording as the voice detector hears it: (samples,) float32 at 16 kHz; one of that rate as it is."""
    import soundfile

    audio = audio or read_audio(path)
    if audio.rate != RATE or audio.channels != 1:
        return at_16_khz(audio.pcm)
    return np.asarray(soundfile.read(path, dtype="float32")[0], np.float32)  # which was just found to be readable


def read_words(path: Path) -> tuple[Word, ...]:
    """Read `output.json`; words without a start are left out. Raises DataError."""
    chunks = read_json(path, error=DataError, remedy="write it again").get("chunks")
    if not isinstance(chunks, list):
        raise DataError(f"{path}: chunks is {shown(chunks)}; a list of words with their timestamps expected")
    words = []
    for chunk in chunks:
        times = chunk.get("timestamp") if isinstance(chunk, dict) else None
        if not isinstance(times, list) or len(times) != 2 or not all(map(_is_time, times)):
            raise DataError(f"{path}: a chunk is {shown(chunk)}; text and timestamp [start, end] expected")
        if times[0] is not None:
            end = math.nan if times[1] is None else float(times[1])
            words.append(Word(str(chunk.get("text", "")).strip(), float(times[0]), end))
    return tuple(words)


def ended_by_voice(words: Sequence[Word], pcm: np.ndarray) -> list[Word]:
    """Return words that end where the voice falls silent, if that is before their end.

    pcm: (samples,) float32 at 24 kHz. An inner monologue says when a word begins; where the last one before a
    pause ends is heard, to a frame.
    """
    found = []
    for word in words:
        first = round(word.start / FRAME_SECONDS)
        last = max(first + 1, math.ceil(round(word.end / FRAME_SECONDS, 6)))
        voiced = [
            not is_silent(pcm[frame * FRAME_SAMPLES : (frame + 1) * FRAME_SAMPLES]) for frame in range(first, last)
        ]
        spoken = first + 1 + max((index for index, heard in enumerate(voiced) if heard), default=0)
        found.append(Word(word.text, word.start, min(word.end, spoken * FRAME_SECONDS)))
    return found


def _is_time(value: Any) -> bool:
    return value is None or (type(value) in (int, float) and -1e6 < value < 1e6)


def _beside(folder: Path) -> list[str]:
    """The small files of a scene: all of its JSON but an answer's."""
    return [path.name for path in folder.glob("*.json") if path.name != WORDS]
