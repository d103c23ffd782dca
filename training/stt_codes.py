"""What `nano-stt` learns from, as codes: people who talk, each in a room of their own, and when each word begins.

`python -m training.stt_codes FOLDER [PARTS]`; stops and goes on at any time. Encoded by the package's own codec,
whole talks at once, so what is said lies in the same stream as what was before.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import mlx.core as mx
import numpy as np

from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.frames import FRAME_SAMPLES, SAMPLE_RATE
from moshi_mlx.models.mimi import Mimi
from training import augment
from training.stt_text import sentence
from training.voices import TRAINING_VOICES, Voice, is_human
from training.word_times import timed

CODEBOOKS = 4  # of Nano's eight: the others tell how it sounded
TALKS, UTTERANCES = 6, 8  # of a part, of a talk
HEARINGS = 2  # of what the more human voices say: they take longer to make
ESPEAK_TURNS = 3  # rounds in which each of espeak-ng's many voices has its turn once
ROUNDS = 11
NOISES = 0.05  # of the utterances are none: knocks, coughs, beeps
HESITATES = 0.12
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
    human = [voice for voice in TRAINING_VOICES if is_human(str(voice))]
    others = [voice for voice in TRAINING_VOICES if not is_human(str(voice))]
    order: list[Voice] = []
    for number in range(ROUNDS):
        order += human + others[number % ESPEAK_TURNS :: ESPEAK_TURNS]
    return order


def make(folder: Path, count: int | None = None) -> None:
    """Make the parts that are not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    ears = _ears()
    for number, voice in enumerate(parts()[:count]):
        path = folder / f"{number:04}.npz"
        if path.exists():
            continue
        rng = np.random.default_rng([40, number])
        talks = list(_talks(ears, voice, rng))
        about = json.dumps([[asdict(said) for said in talk.said] for talk in talks])
        with path.with_suffix(".part").open("wb") as file:
            codes = {f"codes{index}": talk.codes for index, talk in enumerate(talks)}
            np.savez_compressed(file, voice=str(voice), about=about, **codes)  # pyright: ignore[reportArgumentType]
        path.with_suffix(".part").rename(path)
        print(f"codes: {voice} ({number + 1} of {len(parts()[:count])})", flush=True)


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


def _talks(ears: Mimi, voice: Voice, rng: np.random.Generator) -> Iterator[Talk]:
    hearings = HEARINGS if is_human(str(voice)) else 1
    recordings = [_recording(voice, rng) for _ in range(TALKS * UTTERANCES // hearings)]
    order = np.concatenate([rng.permutation(len(recordings)) for _ in range(hearings)])
    for talk in order.reshape(TALKS, UTTERANCES):
        pcm, said = _stream(rng, [recordings[index] for index in talk], 0.16 if is_human(str(voice)) else 0.1)
        heard = augment.spoiled(rng, augment.in_room(rng, pcm) if rng.random() < 0.3 else pcm)
        codes = ears.encode(mx.array(heard[None].astype(np.float32)))[0]
        yield Talk(str(voice), said, np.array(codes).astype(np.int16))


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
        return augment.trimmed(said.pcm, 0.01, 240), words


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
    make(Path(sys.argv[1]) / "codes", *map(int, sys.argv[2:3]))
