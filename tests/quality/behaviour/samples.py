"""Samples in the benchmark's folders, with words and voices at the edges of its rules.

The benchmark's own scripts judged them once (`tests/make_behaviour_golden.py`), the tests judge the same.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from moshi_mlx.audio.files import read_audio
from moshi_mlx.checkpoint.nano import RECORDING, captions
from moshi_mlx.frames import SAMPLE_RATE
from moshi_mlx.quality.behaviour.answer import write_answer, write_voice
from moshi_mlx.quality.behaviour.scene import (
    BACKCHANNEL,
    INTERRUPTION,
    PAUSE_HANDLING,
    TURN_TAKING,
    Scene,
    write_json,
    write_scene,
)
from moshi_mlx.tasks.words import Word

SECONDS = 12.0  # of the samples with voices

Times = list[tuple[float, float]]

# Words by (start, end), at the edges of the rules for takeovers: 1 s, 3 words.
EDGES: list[Times] = [
    [],
    [(2.0, 2.4)],
    [(2.0, 3.0)],
    [(2.0, 2.99), (3.0, 2.999)],
    [(2.0, 2.2), (2.3, 2.5), (2.6, 2.9)],  # three short words, where the published rules differ
    [(2.0, 2.2), (2.3, 2.5), (2.6, 2.8), (2.8, 2.95)],
    [(0.4, 0.6), (2.6, 2.8), (5.8, 6.5)],  # begins before the user has ended
    [(1.28, 1.44), (1.44, 1.6), (1.68, 2.32)],
    [(0.1, 1.1)],
    [(0.1, 1.0), (1.0, 1.0)],
]
TURN_END = 1.16

# Voices of backchannel samples, (second of the sample, seconds of speech), and words beside them.
VOICES: list[tuple[Times, Times]] = [
    ([], []),
    ([(2.0, 0.5)], [(2.0, 2.4)]),
    ([(2.0, 0.7)], [(2.0, 2.2), (2.2, 2.4), (2.4, 2.6)]),
    ([(2.0, 1.6)], [(2.0, 2.3)]),
    ([(2.0, 0.6), (6.0, 0.5)], [(1.9, 2.3), (6.1, 6.2)]),
    ([(1.0, 0.5), (3.0, 4.2)], [(1.0, 1.3), (3.2, 5.0), (5.0, 7.0)]),
    ([(3.0, 1.4), (7.0, 0.5)], [(3.0, 3.2), (3.2, 4.5), (7.0, 7.3)]),  # the last one decides
    ([(2.0, 0.6)], [(1.5, 2.2), (2.4, 3.5), (2.2, 2.3), (2.3, 2.4)]),
    ([(0.5, 0.5), (2.5, 0.6), (4.5, 0.5), (8.0, 0.6)], []),
    ([(11.2, 0.8)], [(11.2, 11.5)]),  # at the end of the recording
]
# What the user and the model say in samples of version 1.5.
TALKS: list[tuple[Times, Times]] = [
    ([(0.5, 2.0)], [(4.0, 3.0)]),
    ([(0.5, 1.5), (5.0, 1.5)], [(3.0, 3.0)]),
    ([(1.0, 4.0)], [(2.0, 0.8), (4.0, 2.5), (9.0, 1.0)]),
    ([(1.0, 1.0), (2.4, 1.0), (7.0, 1.0)], [(3.0, 1.5), (9.0, 2.0)]),
    ([(1.0, 1.0)], []),
]
LENGTHS = [60, 61, 17, 240, 60, 59, 60, 2, 33, 60]  # bins of the people's histograms


def voice(where: Times, seed: int) -> np.ndarray:
    """Speech of a recording at some times of a silence, (samples,) float32 at 24 kHz."""
    recording, random = read_audio(RECORDING).pcm, np.random.RandomState(seed)
    pcm = (random.standard_normal(round(SECONDS * SAMPLE_RATE)) * 1e-4).astype(np.float32)
    for number, (start, seconds) in enumerate(where):
        spoken = np.concatenate([_caption(recording, (seed + number + each) % 3) for each in range(3)])
        piece = spoken[: round(seconds * SAMPLE_RATE)]
        begin = round(start * SAMPLE_RATE)
        pcm[begin : begin + len(piece)] += piece[: len(pcm) - begin]
    return pcm


def _caption(recording: np.ndarray, number: int) -> np.ndarray:
    one = captions()[number]
    return recording[round(one["begin"] * SAMPLE_RATE) : round(one["end"] * SAMPLE_RATE)]


def words(times: Times) -> list[Word]:
    """Words of no meaning, by their times."""
    return [Word(f"word{number}", start, end) for number, (start, end) in enumerate(times)]


def people() -> dict[str, list[float]]:
    """How often people give backchannels in each sample."""
    random = np.random.RandomState(5)
    histograms = {}
    for number, length in enumerate(LENGTHS):
        bins = random.exponential(size=length) * (random.uniform(size=length) > 0.4) + 1e-10
        histograms[str(number)] = (bins / bins.sum()).tolist()
    return histograms


def make_samples(root: Path) -> None:
    """Make all samples, each task's in a folder of its name; version 1.5's in `timing`."""
    silent = np.zeros(8 * SAMPLE_RATE, np.float32)
    scenes: dict[str, dict[str, Any]] = {
        PAUSE_HANDLING: {"pauses": ((0.5, 0.9),)},
        TURN_TAKING: {"turn_end": TURN_END},
        INTERRUPTION: {"interruption": (0.5, TURN_END), "context": "Go on.", "interrupt": "Stop!"},
    }
    for task, about in scenes.items():
        for number, times in enumerate(EDGES):
            folder = root / task / str(number)
            scene = write_scene(Scene(task, str(number), **about), folder, silent)
            if task == INTERRUPTION:  # as a transcript of what comes after it
                times = [(start + 1.2, end + 1.2) for start, end in times]
            write_answer(scene, folder, silent, words(times))
    write_json(root / PAUSE_HANDLING / "8" / "output.json", _without_end(EDGES[8]))
    histograms = people()
    for number, (where, times) in enumerate(VOICES):
        folder = root / BACKCHANNEL / str(number)
        scene = Scene(BACKCHANNEL, str(number), human=tuple(histograms[str(number)]))
        write_answer(write_scene(scene, folder, silent), folder, voice(where, number), words(times))
    write_json(root / BACKCHANNEL / "7" / "output.json", _without_end(VOICES[7][1]))
    for number, (user, model) in enumerate(TALKS):
        folder = root / "timing" / str(number)
        folder.mkdir(parents=True)
        write_voice(folder / "input.wav", voice(user, number))
        write_voice(folder / "output.wav", voice(model, number + 1))


def _without_end(times: Times) -> dict[str, Any]:
    """What some transcribers write: the last word's end is not known."""
    chunks = [{"text": f" word{number}", "timestamp": list(each)} for number, each in enumerate(times)]
    chunks[-1]["timestamp"] = [times[-1][0], None]
    return {"text": "", "chunks": chunks}


if __name__ == "__main__":
    import sys

    make_samples(Path(sys.argv[1]))
    print(json.dumps(people()))
