"""Small sets of recordings, as Kyutai's trainer takes them and as `chat` keeps them."""

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile

RATE = 24_000


def voices(seconds: float, seed: int = 0, channels: int = 2) -> np.ndarray:
    """(samples, channels) of noise."""
    random = np.random.RandomState(seed)
    return (0.1 * random.standard_normal((round(seconds * RATE), channels))).astype(np.float32)


def stereo_set(folder: Path, seconds: tuple[float, ...] = (3.0, 2.5), rate: int = RATE) -> Path:
    """Write a list of stereo files with their words; return the list."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for number, length in enumerate(seconds):
        name = f"{number}.wav"
        soundfile.write(folder / name, voices(length, number)[:: RATE // rate], rate)
        words = [["good", [0.3, 0.6], "SPEAKER_MAIN"], ["you", [0.7, 0.8], "SPEAKER_01"]]
        words.append(["morning", [1.0, 1.4], "SPEAKER_MAIN"])
        (folder / f"{number}.json").write_text(json.dumps({"alignments": words}))
        lines.append(json.dumps({"path": name, "duration": length}))
    path = folder / "list.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


def kept_conversation(folder: Path, seconds: float = 2.0) -> Path:
    """Write what `chat --save` leaves."""
    folder.mkdir(parents=True)
    for number, name in enumerate(("user", "moshi")):
        soundfile.write(folder / f"{name}.wav", voices(seconds, number, 1), RATE)
    pieces = [{"t": 0.4, "text": " good"}, {"t": 0.48, "text": " morn"}, {"t": 0.56, "text": "ing"}]
    (folder / "transcript.jsonl").write_text("".join(json.dumps(piece) + "\n" for piece in pieces))
    (folder / "turns.jsonl").write_text("")
    return folder


@contextmanager
def small_files(most: int) -> Iterator[None]:
    """Let the system refuse files of more bytes, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
