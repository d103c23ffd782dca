"""Everything the language model hears and says, as codes: what people say, what rooms sound like, Nano's answers.

Encoded once with the finished codec and kept in the work folder.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from training import augment, corpus
from training.codec import FRAME, Codec
from training.codec_data import LEAD_FRAMES, answer_streams, trimmed
from training.dialogue import KNOWN
from training.text import word_frames

ROOMS = 240
ROOM_FRAMES = 150
FORGET_FRAMES = 14  # what the codec hears before anything is kept
BEFORE_FRAMES, AFTER_FRAMES = 4, 6  # of the room around an utterance
TAKES = 2  # of every known utterance, in different rooms


@dataclass(frozen=True)
class Answer:
    """What Nano says. codes: [8, frames], beginning with the first sound; words: (frame, word)."""

    codes: np.ndarray
    words: list[tuple[int, str]]


@dataclass(frozen=True)
class Said:
    """What a person says, in a room. codes: [8, frames]; speech lasts from frame `begin` up to frame `end`."""

    text: str
    room: int
    begin: int
    end: int
    codes: np.ndarray


@dataclass(frozen=True)
class SpeechCodes:
    """silence: [8]; echoes: an answer's text to [8, frames] each.

    rooms: [ROOMS, 8, FORGET_FRAMES + ROOM_FRAMES], each from the very start of a stream.
    """

    silence: np.ndarray
    answers: dict[str, Answer]
    rooms: np.ndarray
    said: list[Said]
    bumps: list[Said]
    echoes: dict[str, list[np.ndarray]]


def answer_codes(codec: Codec) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The code of silence [8], and every answer's codes [8, frames] from its first sound to its last."""
    with torch.no_grad():
        silence = _encode(codec, np.zeros(60 * FRAME, np.float32))[:, -1]
        answers = {}
        for text, stream in answer_streams().items():
            codes = _encode(codec, stream)
            last = -(-(np.flatnonzero(stream)[-1] + 1) // FRAME)
            answers[text] = codes[:, LEAD_FRAMES : last + 1]
    return silence, answers


def load(folder: Path, codec: Codec) -> SpeechCodes:
    """Read the codes, or make them first (about ten minutes)."""
    import pickle

    path = folder / "codes.pickle"  # our own file, in our own work folder
    if not path.exists():
        made = _make(codec, corpus.load(folder))
        path.with_suffix(".part").write_bytes(pickle.dumps(made))
        path.with_suffix(".part").rename(path)
    return pickle.loads(path.read_bytes())


@dataclass(frozen=True)
class _Room:
    """level: RMS of its noise; tilt: see augment.noise; gain: of what is said in it; band: Hz, or None."""

    level: float
    tilt: float
    gain: float
    band: tuple[float, float] | None

    def heard(self, rng: np.random.Generator, pcm: np.ndarray) -> np.ndarray:
        out = pcm * self.gain * 10 ** (rng.uniform(-3, 3) / 20)
        if self.level:
            out = out + self.level * augment.noise(rng, len(out), self.tilt)
        if self.band:
            out = augment.narrow(out, self.band[1], self.band[0])
        return np.clip(out, -1, 1)


def _rooms(rng: np.random.Generator) -> list[_Room]:
    rooms = []
    for index in range(ROOMS):
        level = 0.0 if index % 5 == 0 else 10 ** (rng.uniform(-75, -38) / 20)
        band = None
        if index % 4 == 1:
            band = (rng.choice([0.0, 0.0, 150.0, 300.0]), rng.choice([3_400.0, 3_900.0, 5_500.0, 7_900.0]))
        rooms.append(_Room(level, rng.uniform(0, 2), 10 ** (rng.uniform(-11, 4) / 20), band))
    return rooms


def _make(codec: Codec, recordings: corpus.Corpus) -> SpeechCodes:
    rng = np.random.default_rng(30)
    silence, own = answer_codes(codec)
    answers = {text: Answer(codes, word_frames(text)) for text, codes in own.items()}
    rooms = _rooms(rng)
    forget = np.zeros(FORGET_FRAMES * FRAME, np.float32)
    nothing = np.zeros(ROOM_FRAMES * FRAME, np.float32)
    room_codes = [_encode(codec, room.heard(rng, np.concatenate([forget, nothing]))) for room in rooms]

    work: list[tuple[str, int, int, int, np.ndarray]] = []

    def place(text: str, pcm: np.ndarray) -> None:
        room = int(rng.integers(ROOMS))
        phase = int(rng.integers(FRAME))
        begin = (FORGET_FRAMES + BEFORE_FRAMES) * FRAME + phase
        frames = -(-(begin + len(pcm)) // FRAME) + AFTER_FRAMES
        out = np.zeros(frames * FRAME, np.float32)
        out[begin : begin + len(pcm)] = pcm
        last = -(-(begin + len(pcm)) // FRAME) - FORGET_FRAMES
        work.append((text, room, BEFORE_FRAMES, last, rooms[room].heard(rng, out)))

    for take in range(TAKES):
        for index in range(len(recordings)):
            if take and recordings.texts[index] not in KNOWN:
                continue
            pcm = trimmed(recordings.utterance(index).pcm, 0.01, 240)
            factor = float(np.exp(rng.uniform(-0.1, 0.1)))
            place(recordings.texts[index], augment.warped(pcm, factor, int(len(pcm) / factor), 0))
    for _ in range(600):
        pcm = augment.bumps(rng, int(24_000 * rng.uniform(0.3, 2.0)))
        place("", pcm * rng.choice([0.03, 0.1, 0.5]))
    said = _encode_all(codec, work)
    echoes: dict[str, list[np.ndarray]] = {}
    for text, stream in answer_streams().items():
        for _ in range(6):
            late = np.roll(stream, int(rng.integers(0, 2 * FRAME))) * 10 ** (rng.uniform(-40, -14) / 20)
            heard = rooms[int(rng.integers(ROOMS))].heard(rng, np.concatenate([forget, late]))
            echoes.setdefault(text, []).append(_encode(codec, heard)[:, FORGET_FRAMES + LEAD_FRAMES :])
    return SpeechCodes(
        silence,
        answers,
        np.stack(room_codes),
        [one for one in said if one.text],
        [one for one in said if not one.text],
        echoes,
    )


def _encode(codec: Codec, pcm: np.ndarray) -> np.ndarray:
    return _encode_batch(codec, pcm[None])[0]


@torch.no_grad()
def _encode_batch(codec: Codec, pcm: np.ndarray) -> np.ndarray:
    codes = codec.quantize(codec.encode(torch.from_numpy(np.ascontiguousarray(pcm))[:, None]).float()).codes
    assert codes is not None
    return codes.numpy().astype(np.int16)


def _encode_all(codec: Codec, work: list[tuple[str, int, int, int, np.ndarray]], size: int = 16) -> list[Said]:
    """Encode recordings of like lengths together."""
    order = sorted(range(len(work)), key=lambda index: len(work[index][-1]))
    out = []
    for first in range(0, len(order), size):
        group = [work[index] for index in order[first : first + size]]
        pcm = np.zeros((len(group), max(len(item[-1]) for item in group)), np.float32)
        for row, item in enumerate(group):
            pcm[row, : len(item[-1])] = item[-1]
        with torch.autocast("cpu", torch.bfloat16):
            codes = _encode_batch(codec, pcm)
        for row, (text, room, begin, end, samples) in enumerate(group):
            out.append(Said(text, room, begin, end, codes[row, :, FORGET_FRAMES : len(samples) // FRAME]))
        if first // size % 50 == 0:
            print(f"codes: {first} of {len(order)}", flush=True)
    return out
