"""What `nano-stt` learns from, as codes: people who talk, each in a room of their own, and when each word begins.

`python -m training.stt_codes FOLDER [PARTS]`; stops and goes on at any time. What is heard is kept in FOLDER/talks
and encoded by the package's own codec, whole talks at once, so what is said lies in the same stream as what was
before.
"""

import json
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import mlx.core as mx
import numpy as np

from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.frames import FRAME_SAMPLES, SAMPLE_RATE
from moshi_mlx.models.mimi import Mimi
from moshi_mlx.weights.atomic import AtomicPath
from training import augment
from training.conversion import converted
from training.stt_text import sentence
from training.voices import BEFORE_KOKORO, Voice, is_human, speak
from training.word_times import timed

CODEBOOKS = 4  # of Nano's eight: the others tell how it sounded
TALKS, UTTERANCES = 6, 8  # of a part, of a talk
HEARINGS = 2  # of what the more human voices say: they take longer to make
ESPEAK_TURNS = 3  # rounds in which each of espeak-ng's many voices has its turn once
ROUNDS = 11
NOISES = 0.05  # of the utterances are none: knocks, coughs, beeps
HESITATES = 0.12
CONVERTED = 0.6  # of the utterances are said by a speaker made of two voices, or of one of another size
_QUICK = tuple(voice for voice in BEFORE_KOKORO if voice.engine in ("espeak", "flite", "pico"))
LEAST_SECONDS, MOST_SECONDS = 0.3, 1.1  # between utterances
TAIL_SECONDS = 3.0


@dataclass(frozen=True)
class Said:
    """An utterance of a talk, in seconds from its beginning. words: of the text, as the reader sees it, with their
    onsets; none of a noise. begin, end: of the sound."""

    words: list[tuple[str, float]]
    begin: float
    end: float


@dataclass(frozen=True)
class Talk:
    """codes: [CODEBOOKS, frames] from the very start of a stream."""

    voice: str
    said: list[Said]
    codes: np.ndarray


def parts() -> list[Voice]:
    """Who talks in each part, in order: every round has as many of the more human voices as of the others."""
    human = [voice for voice in BEFORE_KOKORO if is_human(str(voice))]
    others = [voice for voice in BEFORE_KOKORO if not is_human(str(voice))]
    order: list[Voice] = []
    for number in range(ROUNDS):
        order += human + others[number % ESPEAK_TURNS :: ESPEAK_TURNS]
    return order


def make(folder: Path, count: int | None = None) -> None:
    """Make the parts that are not there yet."""
    speak_all(folder / "talks", count)
    out = folder / "codes"
    out.mkdir(parents=True, exist_ok=True)
    ears = _ears()
    for number, voice in enumerate(parts()[:count]):
        if (out / f"{number:04}.npz").exists():
            continue
        with np.load(folder / "talks" / f"{number:04}.npz") as talks:
            heard = [talks[f"pcm{index}"].astype(np.float32) / 32767 for index in range(TALKS)]
            about = str(talks["about"])
        codes = {
            f"codes{index}": np.array(ears.encode(mx.array(pcm[None]))[0]).astype(np.int16)
            for index, pcm in enumerate(heard)
        }
        _keep(out / f"{number:04}.npz", voice, about, codes)
        print(f"codes: {voice} ({number + 1} of {len(parts()[:count])})", flush=True)


def speak_all(folder: Path, count: int | None = None) -> None:
    """Make the talks of the parts that are not there yet, as they are heard."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = range(len(parts()[:count]))
    missing = [number for number in wanted if not (folder / f"{number:04}.npz").exists()]
    with ProcessPoolExecutor(os.cpu_count()) as workers:
        for voice in workers.map(_speak_part, [folder] * len(missing), missing):
            print(f"talks: {voice}", flush=True)


def _speak_part(folder: Path, number: int) -> str:
    voice = parts()[number]
    talks = list(_talks(voice, np.random.default_rng([40, number])))
    about = json.dumps([[asdict(one) for one in said] for said, _ in talks])
    pcm = {f"pcm{index}": np.round(heard * 32767).astype(np.int16) for index, (_, heard) in enumerate(talks)}
    _keep(folder / f"{number:04}.npz", voice, about, pcm)
    return str(voice)


def _keep(path: Path, voice: Voice, about: str, arrays: dict[str, np.ndarray]) -> None:
    with AtomicPath(path) as part, part.open("wb") as file:
        np.savez_compressed(file, voice=str(voice), about=about, **arrays)  # pyright: ignore[reportArgumentType]


def load(folder: Path) -> list[Talk]:
    """Read the parts that are there."""
    talks = []
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as stored:
            for index, every in enumerate(json.loads(str(stored["about"]))):
                said = [Said([(word, at) for word, at in one["words"]], one["begin"], one["end"]) for one in every]
                talks.append(Talk(str(stored["voice"]), said, stored[f"codes{index}"]))
    return talks


def _ears() -> Mimi:
    nano = Checkpoint.resolve("nano", offline=True)
    published = mx.load(str(nano.mimi_weights))
    assert isinstance(published, dict)
    mimi = Mimi(nano.mimi_config, CODEBOOKS)
    mimi.load_weights(list(Mimi.sanitize(published, nano.mimi_config, CODEBOOKS).items()))
    return mimi


def _talks(voice: Voice, rng: np.random.Generator) -> Iterator[tuple[list[Said], np.ndarray]]:
    """What is said, and the samples that the codec hears."""
    hearings = HEARINGS if is_human(str(voice)) else 1
    recordings = [_recording(voice, rng) for _ in range(TALKS * UTTERANCES // hearings)]
    order = np.concatenate([rng.permutation(len(recordings)) for _ in range(hearings)])
    for talk in order.reshape(TALKS, UTTERANCES):
        pcm, said = _stream(rng, [recordings[index] for index in talk], 0.16 if is_human(str(voice)) else 0.1)
        yield said, augment.spoiled(rng, pcm)


def _recording(voice: Voice, rng: np.random.Generator) -> tuple[np.ndarray, list[tuple[str, float]]]:
    """Speech without silence around it, and its words; or a noise."""
    if rng.random() < NOISES:
        return augment.bumps(rng, int(SAMPLE_RATE * rng.uniform(0.3, 2.0))) * rng.choice([0.03, 0.1, 0.5]), []
    while True:
        text = sentence(rng)
        try:
            said = timed(voice, text, *np.exp(rng.uniform([-0.18, -0.2], [0.18, 0.2])).tolist())
        except KeyError:
            continue
        skipped = augment.spoken(said.pcm, 0.01, 240).start / SAMPLE_RATE
        words = [(word, onset - skipped) for word, onset in zip(text.split(), said.onsets, strict=True)]
        return augment.trimmed(_by_another(rng, said.pcm, text), 0.01, 240), words


def _by_another(rng: np.random.Generator, pcm: np.ndarray, text: str) -> np.ndarray:
    """The same, often by somebody that no synthesizer has."""
    if rng.random() > CONVERTED:
        return pcm
    other = pcm if rng.random() < 0.4 else speak(_QUICK[rng.integers(len(_QUICK))], text).pcm
    return converted(pcm, other, float(np.exp(rng.uniform(-0.17, 0.17))), float(rng.uniform(0.6, 1)))


def _stream(
    rng: np.random.Generator, recordings: list[tuple[np.ndarray, list[tuple[str, float]]]], spread: float
) -> tuple[np.ndarray, list[Said]]:
    """One after the other, of larger and smaller persons (by a factor within e^±spread), some with a pause."""
    pieces, said, now = [], [], 0

    def wait(seconds: float) -> None:
        nonlocal now
        pieces.append(np.zeros(int(seconds * SAMPLE_RATE), np.float32))
        now += len(pieces[-1])

    wait(rng.uniform(0.2, MOST_SECONDS))
    for pcm, words in recordings:
        factor = float(np.exp(rng.uniform(-spread, spread)))
        pcm = augment.warped(pcm, factor, int(len(pcm) / factor), 0)
        times = np.array([max(0.0, onset) for _, onset in words]) / factor
        if len(words) > 2 and rng.random() < HESITATES:
            before, more = int(rng.integers(1, len(words))), rng.uniform(0.2, 1.2)
            at = int(max(0.0, times[before] - 0.01) * SAMPLE_RATE)
            pcm = np.concatenate([pcm[:at], np.zeros(int(more * SAMPLE_RATE), np.float32), pcm[at:]])
            times[before:] += more
        begin = now / SAMPLE_RATE
        pieces.append(pcm * 10 ** (rng.uniform(-3, 3) / 20))
        now += len(pcm)
        placed = [(word, round(begin + at, 3)) for (word, _), at in zip(words, times.tolist(), strict=True)]
        said.append(Said(placed, round(begin, 3), round(now / SAMPLE_RATE, 3)))
        wait(rng.uniform(LEAST_SECONDS, MOST_SECONDS))
    wait(TAIL_SECONDS)
    pcm = np.concatenate(pieces)
    return pcm[: len(pcm) // FRAME_SAMPLES * FRAME_SAMPLES], said


if __name__ == "__main__":
    make(Path(sys.argv[1]), *map(int, sys.argv[2:3]))
