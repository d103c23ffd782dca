"""Everything the language model hears and says, as codes: what people say, what rooms sound like, Nano's answers.

Encoded once with the finished codec and kept in the work folder.
"""

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from moshi.models.compression import MimiModel

from moshi_mlx.weights.atomic import AtomicPath
from training import augment, corpus, persona_text
from training.answers import LEAD_FRAMES, answer_streams
from training.augment import trimmed
from training.codec import FRAME, Codec, books, folded, vectors
from training.dialogue import FILLERS, KNOWN, UNKNOWN
from training.text import word_frames
from training.utterances import FORGET_FRAMES, Answer, Said, SpeechCodes
from training.voices import is_human

SPEAKER_BOOK = 2  # the second acoustic one
ROOMS = 240
BUMPS = 600
ROOM_FRAMES = 150
BEFORE_FRAMES, AFTER_FRAMES = 4, 6  # of the room around an utterance
NOISY_SHARE = 0.2  # of the utterances bring noise of their own, as recordings that were cut out do
NARROW_SHARE = 0.2  # were recorded at a lower rate
REVERBERANT_SHARE, COLOURED_SHARE, OVERDRIVEN_SHARE, GAPPED_SHARE = 0.3, 0.3, 0.15, 0.1
HEARINGS = {"festival": 2, "kokoro": 3}
"""In how many rooms each recording of a known sentence is heard, if not in one: some voices are easily learnt by
heart, of some there are few recordings."""
KNOWN_SHARE, UNKNOWN_SHARE = 0.8, 0.5
"""Of what many say, so much is heard: the codec hears more than the language model has the time for."""
_COMMON = frozenset([*UNKNOWN, *FILLERS])
ASIDES = 500  # of music, and as many of people who talk to each other
ASIDE_FRAMES = 75
ECHOES = 6  # of every answer
FAINTER = (19, 40)  # dB by which those are below somebody who speaks into the microphone


def own_codes(folder: Path, codec: Codec) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The code of silence [8], and every answer's codes [8, frames] from its first sound to its last.

    Made when the codebooks are finished and kept in the work folder: the encoder goes on learning after that.
    """
    streams = {_SILENCE: np.zeros(60 * FRAME, np.float32)}
    answers = _kept(folder / "own.npz", lambda: _spoken(codec, {**streams, **answer_streams()}))
    return answers.pop(_SILENCE)[:, -1], answers


def persona_codes(folder: Path, codec: Codec) -> dict[str, np.ndarray]:
    """As `own_codes`, of all that `nano-persona` says in its voices, by `persona_text.key`.

    What the codec was trained to hear hardly tells how high a voice is, so of its second voice one codebook says
    nothing but whose it is, in every frame.
    """

    def make() -> dict[str, np.ndarray]:
        own = np.concatenate([*own_codes(folder, codec)[1].values()], 1)  # [8, frames]
        mark = _unlike(codec, own[SPEAKER_BOOK])
        codes = _spoken(codec, persona_text.streams())
        for name in filter(persona_text.in_second, codes):
            codes[name][SPEAKER_BOOK] = mark
        return codes

    return _kept(folder / "persona.npz", make)


def _unlike(codec: Codec, used: np.ndarray) -> int:
    """The code of SPEAKER_BOOK whose vector is the longest, of those that are not used."""
    lengths = vectors(books(codec.mimi)[SPEAKER_BOOK]).detach().norm(dim=1).numpy()
    lengths[used] = 0
    return int(lengths.argmax())


SPEAKING = "speaking.pt"


def speaking(folder: Path, codec: Codec) -> Codec:
    """The codec as it was when its codebooks were finished, before its encoder went on to hear people alone.

    What it makes of a voice is what the decoder was made for. Where it was not kept, `codec`.
    """
    path = folder / SPEAKING
    if not path.exists():
        return codec
    kept = Codec()
    kept.load_state_dict(torch.load(path))
    return kept.eval()


_SILENCE = "silence"


def _kept(path: Path, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    if not path.exists():
        save_codes(path, make())
    with np.load(path) as stored:
        return {name: stored[name] for name in stored.files}


def _spoken(codec: Codec, streams: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    mimi = folded(codec)
    return {text: _own(mimi, text, stream) for text, stream in streams.items()}


def _own(mimi: MimiModel, text: str, stream: np.ndarray) -> np.ndarray:
    codes = encode(mimi, stream)
    return codes if text == _SILENCE else codes[:, LEAD_FRAMES:][:, : answer_frames(stream)]


def save_codes(path: Path, codes: dict[str, np.ndarray]) -> None:
    """Keep codes in the work folder, by what is said."""
    arrays: dict[str, Any] = {**codes}
    np.savez(path, **arrays)


def answer_frames(stream: np.ndarray) -> int:
    """How many frames of an answer's stream are not silence, with the one in which the codec still hears it."""
    return int(-(-(np.flatnonzero(stream)[-1] + 1) // FRAME)) + 1 - LEAD_FRAMES


def load(folder: Path, codec: Codec) -> SpeechCodes:
    """Read the codes, or make them first (about twenty minutes)."""
    import pickle

    path = folder / "codes.pickle"  # our own file, in our own work folder
    if not path.exists():
        made = _make(codec, corpus.load(folder), *own_codes(folder, codec))
        with AtomicPath(path) as part:
            part.write_bytes(pickle.dumps(made))
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


def _make(codec: Codec, recordings: corpus.Corpus, silence: np.ndarray, own: dict[str, np.ndarray]) -> SpeechCodes:
    rng = np.random.default_rng(30)
    ears = folded(codec)
    ears.load_state_dict(
        {key: value.bfloat16().float() for key, value in ears.state_dict().items()}
    )  # as exported
    answers = {text: Answer(codes, word_frames(text)) for text, codes in own.items()}
    rooms = _rooms(rng)
    forget = np.zeros(FORGET_FRAMES * FRAME, np.float32)
    nothing = np.zeros(ROOM_FRAMES * FRAME, np.float32)
    room_codes = [encode(ears, room.heard(rng, np.concatenate([forget, nothing]))) for room in rooms]

    global _shop
    _shop = _Shop(recordings, rooms, ears)
    said: list[Said] = []
    jobs = _jobs(recordings)
    # One thread each: PyTorch's own threads wait for one another, badly so when a core has something else to do.
    with ProcessPoolExecutor(os.cpu_count(), get_context("fork"), torch.set_num_threads, (1,)) as workers:
        for done, one in enumerate(workers.map(_clip, jobs, chunksize=16)):
            said.append(one)
            if done % 1000 == 0:
                print(f"codes: {done} of {len(jobs)}", flush=True)
        asides = list(workers.map(_aside, range(2 * ASIDES), chunksize=16))
    echoes: dict[str, list[np.ndarray]] = {}
    for text, stream in answer_streams().items():
        echoes[text] = [
            echo(ears, rng, stream, lambda pcm: rooms[int(rng.integers(ROOMS))].heard(rng, pcm))
            for _ in range(ECHOES)
        ]
    return SpeechCodes(
        silence,
        answers,
        np.stack(room_codes),
        [one for one in said if one.text],
        [one for one in said if not one.text],
        asides,
        echoes,
    )


def echo(
    ears: MimiModel, rng: np.random.Generator, stream: np.ndarray, heard: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """What is said, as it comes back from a loudspeaker near by: later and fainter; codes [8, frames].

    heard: what a microphone makes of that, samples to samples.
    """
    late = np.roll(stream, int(rng.integers(0, 2 * FRAME))) * 10 ** (rng.uniform(-46, -26) / 20)
    pcm = heard(np.concatenate([np.zeros(FORGET_FRAMES * FRAME, np.float32), late]))
    return encode(ears, pcm)[:, FORGET_FRAMES + LEAD_FRAMES :]


@dataclass(frozen=True)
class _Shop:
    """What the workers share: they are forked from this process."""

    recordings: corpus.Corpus
    rooms: list[_Room]
    ears: MimiModel


_shop: _Shop | None = None


def _jobs(recordings: corpus.Corpus) -> list[tuple[int, int]]:
    """The recordings that are heard, and their hearings; the numbers behind the last recording are noises."""
    jobs = []
    rng = np.random.default_rng(33)
    for index, (text, voice) in enumerate(zip(recordings.texts, recordings.voices, strict=True)):
        known = text in KNOWN
        if rng.random() < (KNOWN_SHARE if known else UNKNOWN_SHARE if text in _COMMON else 1):
            hearings = HEARINGS.get(voice.partition(":")[0], 1) if known else 1
            jobs += [(index, hearing) for hearing in range(hearings)]
    return jobs + [(len(recordings) + index, 0) for index in range(BUMPS)]


def _clip(job: tuple[int, int]) -> Said:
    """One recording in a room, or a noise that is none; all its chances follow from its numbers."""
    assert _shop
    index, _ = job
    rng = np.random.default_rng([31, *job])
    if index < len(_shop.recordings):
        voice, text = _shop.recordings.voices[index], _shop.recordings.texts[index]
        pcm = trimmed(_shop.recordings.utterance(index).pcm, 0.01, 240)
        spread = 0.16 if is_human(voice) else 0.1
        factor = float(np.exp(rng.uniform(-spread, spread)))  # of a larger or a smaller person
        pcm = augment.warped(pcm, factor, int(len(pcm) / factor), 0)
        length = len(pcm)
        if rng.random() < REVERBERANT_SHARE:
            pcm = augment.in_room(rng, np.pad(pcm, (0, AFTER_FRAMES * FRAME)))
        if rng.random() < COLOURED_SHARE:
            pcm = augment.through_microphone(rng, pcm)
        if rng.random() < NARROW_SHARE:
            pcm = augment.narrow(
                pcm, rng.choice([3_400.0, 3_900.0, 5_400.0, 7_900.0]), rng.choice([0.0, 0.0, 300.0])
            )
        if rng.random() < OVERDRIVEN_SHARE:
            pcm = augment.overdriven(rng, pcm)
        if rng.random() < GAPPED_SHARE:
            pcm = augment.gapped(rng, pcm)
        if rng.random() < NOISY_SHARE:
            pcm = pcm + 10 ** (rng.uniform(-65, -38) / 20) * augment.noise(rng, len(pcm))
    else:
        voice = text = ""
        pcm = augment.bumps(rng, int(24_000 * rng.uniform(0.3, 2.0))) * rng.choice([0.03, 0.1, 0.5])
        length = len(pcm)
    room = int(rng.integers(ROOMS))
    begin = (FORGET_FRAMES + BEFORE_FRAMES) * FRAME + int(rng.integers(FRAME))
    last = -(-(begin + length) // FRAME)
    out = np.zeros((last + AFTER_FRAMES) * FRAME, np.float32)
    pcm = pcm[: len(out) - begin]
    out[begin : begin + len(pcm)] = pcm
    codes = encode(_shop.ears, _shop.rooms[room].heard(rng, out))[:, FORGET_FRAMES:]
    return Said(voice, text, room, BEFORE_FRAMES, last - FORGET_FRAMES, codes)


def _aside(number: int) -> np.ndarray:
    """Music, or people who talk to each other some metres away."""
    assert _shop
    rng = np.random.default_rng([32, number])
    length = (FORGET_FRAMES + ASIDE_FRAMES) * FRAME
    if number % 2:
        pcm = 10 ** (rng.uniform(-35, -6) / 20) * augment.music(rng, length)
    else:
        pcm = np.zeros(length + 10 * FRAME, np.float32)
        begin = 0
        recordings = _shop.recordings
        far = [index for index, text in enumerate(recordings.texts) if text in FILLERS]
        while begin < length:
            index = far[rng.integers(len(far))] if rng.random() < 0.5 else int(rng.integers(len(recordings)))
            said = trimmed(recordings.utterance(index).pcm, 0.01, 240)[: length - begin]
            pcm[begin : begin + len(said)] = said
            begin += len(said) + int(rng.uniform(0.05, 0.8) * 24_000)
        pcm = augment.in_room(rng, pcm[:length], (-2, 14))
        pcm = 0.5 * 10 ** (-rng.uniform(*FAINTER) / 20) * pcm / (np.abs(pcm).max() + 1e-9)
    room = _shop.rooms[int(rng.integers(ROOMS))]
    heard = pcm + (room.level * augment.noise(rng, length, room.tilt) if room.level else 0)
    return encode(_shop.ears, np.clip(heard, -1, 1))[:, FORGET_FRAMES:]


@torch.no_grad()
def encode(mimi: MimiModel, pcm: np.ndarray) -> np.ndarray:
    """The codes of samples, [8, frames]. In float32: coarser activations give others, above all in silence."""
    return mimi.encode(torch.from_numpy(pcm.astype(np.float32))[None, None])[0].numpy().astype(np.int16)
