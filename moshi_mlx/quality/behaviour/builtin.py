"""The builtin scenes: 200 of them, drawn from a seed, spoken by synthesizers, built when they are first wanted.

They hold what Full-Duplex-Bench measures, in short English sentences, and silence, noise and echo beside it. The
same versions of the synthesizers give the same bytes everywhere.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from moshi_mlx.frames import SAMPLE_RATE
from moshi_mlx.machine import cache_folder
from moshi_mlx.quality.behaviour.builtin_texts import ASIDES, HESITATIONS, LISTENING, QUESTIONS, STOPS, STORIES
from moshi_mlx.quality.behaviour.scene import (
    BACKCHANNEL,
    INTERRUPTION,
    PAUSE_HANDLING,
    SILENCE,
    TURN_TAKING,
    Scene,
    read_scenes,
    write_scene,
)
from moshi_mlx.quality.behaviour.synthesis import (
    ESPEAK,
    FLITE,
    Voice,
    check_synthesizers,
    speak,
    synthesizer_versions,
)
from moshi_mlx.weights.progress import Progress, progress_bar

COUNTS = {
    TURN_TAKING: 70,
    PAUSE_HANDLING: 40,
    INTERRUPTION: 50,
    BACKCHANNEL: 12,
    "user_backchannel": 10,
    "background_speech": 8,
    SILENCE: 10,
}
"""How many scenes of each task; 200 in all."""

VOICES = (
    *(Voice(FLITE, name) for name in ("rms", "awb", "kal", "slt")),
    *(Voice(ESPEAK, name) for name in ("en-us+f4", "en-gb-x-gbcwmd+m5", "en-us+m1", "en-us+f2")),
)
NOISES = (20.0, 10.0)  # dB of signal to noise
ECHOES = (-40.0, -30.0, -20.0, -10.0)  # dB
ANSWER = 5.0  # seconds that an answer has after the last word of the user
REACTION = 0.5  # seconds until a model probably speaks
HESITATION = 0.2  # seconds from which a gap is a pause
RECIPE = 1  # of this file: another number makes other scenes

_SEED = 20_241_001


@dataclass(frozen=True)
class _Draft:
    """A scene whose audio is not spoken yet: what to say when, in seconds after the last said thing."""

    task: str
    texts: tuple[str, ...]
    gaps: tuple[float, ...]  # before each text
    voices: tuple[Voice, ...]  # of each text
    levels: tuple[float, ...]  # dB of each text
    answers: tuple[tuple[str, ...], ...] | None = None
    noise_db: float | None = None
    echo_db: float | None = None
    seconds: float = ANSWER  # after the last text
    sound: str = ""  # of a scene without speech


def builtin_scenes(folder: str | Path | None = None, progress: Progress = None) -> list[Scene]:
    """Return the builtin scenes, sorted as `read_scenes` has them; those that the folder lacks are made first.

    folder: where they are, or will be; by default a folder in the user's cache (`XDG_CACHE_HOME` moves it), one
    for each recipe and version of the synthesizers. It takes 85 MB. Interrupted, the next call goes on.
    Raises DataError where a synthesizer is missing or the system refuses.
    """
    check_synthesizers()
    root = Path(folder) if folder else _cache_folder()
    drafts = list(_drafts())
    missing = [(name, draft) for name, draft in drafts if not (root / draft.task / name / "scene.json").is_file()]
    with progress_bar("making scenes", len(missing), progress if missing else False, "scenes") as advance:
        for name, draft in missing:
            build(name, draft, root)
            advance(1)
    return read_scenes(root)


def scene_names() -> list[tuple[str, str]]:
    """Return (task, id) of each builtin scene, in the order in which they are drawn."""
    return [(draft.task, name) for name, draft in _drafts()]


def build(name: str, draft: _Draft, root: Path) -> Scene:
    """Speak a scene and write it into its task's folder below `root`."""
    rng = np.random.default_rng([_SEED, *name.encode(), *draft.task.encode()])
    if draft.sound:
        return write_scene(Scene(draft.task, name), root / draft.task / name, SOUNDS[draft.sound](rng))
    pieces: list[np.ndarray] = []
    spans: list[tuple[float, float]] = []
    at = 0
    for text, gap, voice, level in zip(draft.texts, draft.gaps, draft.voices, draft.levels, strict=True):
        said = speak(voice, text) * np.float32(10 ** (level / 20))
        pieces += [np.zeros(round(gap * SAMPLE_RATE), np.float32), said]
        begin = at + len(pieces[-2])
        at = begin + len(said)
        spans.append((round(begin / SAMPLE_RATE, 3), round(at / SAMPLE_RATE, 3)))
    pieces.append(np.zeros(round(draft.seconds * SAMPLE_RATE), np.float32))
    pcm = np.concatenate(pieces)
    if draft.noise_db is not None:
        speech = np.concatenate(pieces[1::2])
        pcm = pcm + noise(len(pcm), rng) * np.float32(rms(speech) * 10 ** (-draft.noise_db / 20))
    known = {"answers": draft.answers, "noise_db": draft.noise_db, "echo_db": draft.echo_db}
    scene = replace(_timed(draft, name, spans), **known)
    return write_scene(scene, root / draft.task / name, np.clip(pcm, -1, 1).astype(np.float32))


def _timed(draft: _Draft, name: str, spans: list[tuple[float, float]]) -> Scene:
    """The scene with the times of what is said in it."""
    if draft.task in (TURN_TAKING, PAUSE_HANDLING, BACKCHANNEL):
        gaps = pairwise(spans)
        pauses = tuple((before[1], after[0]) for before, after in gaps if after[0] - before[1] > HESITATION)
        return Scene(draft.task, name, pauses=pauses, turn_end=spans[-1][1], context=" ".join(draft.texts))
    context, interrupt = draft.texts
    return Scene(draft.task, name, interruption=spans[1], context=context, interrupt=interrupt)


def _drafts() -> Iterator[tuple[str, _Draft]]:
    for task, count in COUNTS.items():
        for index in range(count):
            rng = np.random.default_rng([_SEED, *task.encode(), index])
            yield str(index + 1), _DRAWN[task](rng, index)


def _user(rng: np.random.Generator, index: int, texts: int) -> dict:
    """Who speaks, and how loud, the same person throughout."""
    voice = VOICES[index % len(VOICES)]
    level = float(np.round(rng.uniform(-8, 0), 1))
    return {"voices": (voice,) * texts, "levels": (level,) * texts}


def _begin(rng: np.random.Generator) -> float:
    return float(np.round(rng.uniform(0.8, 2.0), 2))


def _think(rng: np.random.Generator) -> float:
    return float(np.round(rng.uniform(0.5, 1.5), 2))


def _questions(rng: np.random.Generator, count: int) -> list[str]:
    return [list(QUESTIONS)[at] for at in rng.choice(len(QUESTIONS), count, replace=False)]


def _turn(rng: np.random.Generator, index: int) -> _Draft:
    """One question, or two at once: clean, in noise, with the model's own echo, and last with a hesitation."""
    if index >= 60:
        parts = HESITATIONS[int(rng.integers(len(HESITATIONS)))]
        known: dict = {**_user(rng, index, 2), "answers": (QUESTIONS[" ".join(parts)],)}
        return _Draft(TURN_TAKING, parts, (_begin(rng), _think(rng)), **known)
    count = 2 if index % 7 == 6 else 1
    asked = _questions(rng, count)
    noise_db = NOISES[index // len(VOICES) % 2] if 30 <= index < 50 else None
    echo_db = ECHOES[index % 4] if index >= 50 else None
    gaps = (_begin(rng), 0.15)[:count]
    answers = tuple(QUESTIONS[each] for each in asked)
    about = {"answers": answers, "noise_db": noise_db, "echo_db": echo_db}
    return _Draft(TURN_TAKING, tuple(asked), gaps, **_user(rng, index, count), **about, seconds=ANSWER + count - 1)


def _pause(rng: np.random.Generator, index: int) -> _Draft:
    """A question in whose middle the user thinks. The scene ends with it: an answer is no intrusion."""
    parts = HESITATIONS[int(rng.integers(len(HESITATIONS)))]
    return _Draft(PAUSE_HANDLING, parts, (_begin(rng), _think(rng)), **_user(rng, index, 2), seconds=0.0)


def _interruption(rng: np.random.Generator, index: int) -> _Draft:
    """A question, and into its answer another one, or the wish that it ends."""
    first, second = _questions(rng, 2)
    answers: tuple[tuple[str, ...], ...] | None = (QUESTIONS[second],)
    if index % 5 == 4:
        second, answers = STOPS[index // 5 % len(STOPS)], None
    gaps = _begin(rng), REACTION + float(np.round(rng.uniform(0.1, 1.3), 2))
    noise_db = NOISES[index // len(VOICES) % 2] if index >= 40 else None
    return _Draft(INTERRUPTION, (first, second), gaps, **_user(rng, index, 2), answers=answers, noise_db=noise_db)


def _story(rng: np.random.Generator, index: int) -> _Draft:
    """A long turn in which a person might hum."""
    texts = STORIES[index % len(STORIES)]
    gaps = (_begin(rng), *(float(np.round(rng.uniform(0.3, 0.7), 2)) for _ in texts[1:]))
    return _Draft(BACKCHANNEL, texts, gaps, **_user(rng, index + index // len(STORIES), len(texts)), seconds=0.0)


def _listener(rng: np.random.Generator, index: int) -> _Draft:
    """A question, and a sign that the user listens to the answer."""
    (asked,) = _questions(rng, 1)
    gaps = _begin(rng), REACTION + float(np.round(rng.uniform(0.3, 1.0), 2))
    texts = asked, LISTENING[index % len(LISTENING)]
    return _Draft("user_backchannel", texts, gaps, **_user(rng, index, 2), answers=(QUESTIONS[asked],))


def _background(rng: np.random.Generator, index: int) -> _Draft:
    """A question, and somebody else who speaks quietly into the answer."""
    (asked,) = _questions(rng, 1)
    gaps = _begin(rng), REACTION + float(np.round(rng.uniform(0.1, 0.8), 2))
    texts = asked, ASIDES[index % len(ASIDES)]
    voices = VOICES[index % len(VOICES)], VOICES[(index + 3) % len(VOICES)]
    return _Draft("background_speech", texts, gaps, voices, (0.0, -18.0), answers=(QUESTIONS[asked],))


def _silence(rng: np.random.Generator, index: int) -> _Draft:
    return _Draft(SILENCE, (), (), (), (), sound=list(SOUNDS)[index % len(SOUNDS)])


_DRAWN: dict[str, Callable[[np.random.Generator, int], _Draft]] = {
    TURN_TAKING: _turn,
    PAUSE_HANDLING: _pause,
    INTERRUPTION: _interruption,
    BACKCHANNEL: _story,
    "user_backchannel": _listener,
    "background_speech": _background,
    SILENCE: _silence,
}


def rms(pcm: np.ndarray) -> float:
    """Return the root of the mean square."""
    return float(np.sqrt(np.mean(np.square(pcm, dtype=np.float64))))


def noise(samples: int, rng: np.random.Generator) -> np.ndarray:
    """Return (samples,) float32 of pink noise, as loud in each octave, with an RMS of 1."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    spectrum[0] = 0
    pink = np.fft.irfft(spectrum, samples)
    return (pink / rms(pink)).astype(np.float32)


_LENGTH = 20 * SAMPLE_RATE  # of a scene in which nobody speaks


def _nothing(rng: np.random.Generator) -> np.ndarray:
    return np.zeros(_LENGTH, np.float32)


def _quiet_room(rng: np.random.Generator) -> np.ndarray:
    return 0.003 * noise(_LENGTH, rng)


def _loud_room(rng: np.random.Generator) -> np.ndarray:
    return 0.03 * noise(_LENGTH, rng)


def _hum(rng: np.random.Generator) -> np.ndarray:
    time = np.arange(_LENGTH) / SAMPLE_RATE
    overtones = [np.sin(2 * np.pi * 50 * n * time + rng.uniform(0, 6.28)) / n for n in (1, 2, 3, 5)]
    return (0.02 * np.sum(overtones, axis=0)).astype(np.float32) + _quiet_room(rng)


def _knocks(rng: np.random.Generator) -> np.ndarray:
    pcm = _quiet_room(rng)
    for at in np.sort(rng.integers(0, _LENGTH - SAMPLE_RATE, 6)):
        decay = np.exp(-np.arange(SAMPLE_RATE // 4) / (0.02 * SAMPLE_RATE))
        pcm[at : at + len(decay)] += (0.4 * decay * rng.standard_normal(len(decay))).astype(np.float32)
    return pcm.clip(-1, 1)


SOUNDS: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "silence": _nothing,
    "quiet room": _quiet_room,
    "loud room": _loud_room,
    "hum": _hum,
    "knocks": _knocks,
}
"""What is heard where nobody speaks, (samples,) float32 at 24 kHz."""


def _cache_folder() -> Path:
    """The folder of this recipe, spoken by these programs; a note in it says which."""
    about = {"recipe": RECIPE, "synthesizers": synthesizer_versions()}
    name = hashlib.sha256(json.dumps(about).encode()).hexdigest()[:12]
    return cache_folder() / "scenes" / name
