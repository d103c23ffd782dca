"""One side of `several_vs_before.py`: reads a number of frames a line, answers times of a frame in ms.

    python benchmarks/worker_several.py MODEL PEOPLE

"step" is `Batch.step` with a frame of each; "loop" is the loop over recordings of all, where the build has one for
several. The rest is named by what was said: the same words by both sides, whatever the time.
Only public names are used, so that it runs with any build of the package (the one on PYTHONPATH).
"""

import hashlib
import json
import sys
import time

import numpy as np

import moshi_mlx


class Noise:
    """So many frames of somebody's noise, as a source; and the sink of the replies."""

    def __init__(self, who: int, frames: int) -> None:
        random = np.random.RandomState(who)
        self.frames = [(0.1 * random.standard_normal(1920)).astype(np.float32) for _ in range(frames)]
        self.words: list[str] = []

    def __iter__(self):
        return iter(self.frames)

    def close(self) -> None:
        pass

    def write(self, reply: moshi_mlx.Reply) -> None:
        self.words.append(reply.text)


def main() -> None:
    moshi, people = moshi_mlx.load(sys.argv[1], codec="mlx"), int(sys.argv[2])
    moshi.warm_up(people)
    for line in sys.stdin:
        frames = int(line)
        said, times = _steps(moshi, people, frames)
        answer = {"step": times, said: [0.0]}
        if seconds := _loop(moshi, people, frames):
            answer["loop"] = [1000 * seconds / frames]
        print(json.dumps(answer), flush=True)


def _steps(moshi: moshi_mlx.Moshi, people: int, frames: int) -> tuple[str, list[float]]:
    """Return what was said, as a hash, and the time of each step, ms."""
    batch, times = moshi.batch(people), []
    parties = {batch.join(seed=who): Noise(who, frames) for who in range(people)}
    for index in range(frames):
        start = time.perf_counter()
        replies = batch.step({session: noise.frames[index] for session, noise in parties.items()})
        times.append(1000 * (time.perf_counter() - start))
        for session, noise in parties.items():
            noise.write(replies[session])
    for session in parties:
        session.close()
    words = "|".join("".join(noise.words) for noise in parties.values())
    return hashlib.sha256(words.encode()).hexdigest(), times


def _loop(moshi: moshi_mlx.Moshi, people: int, frames: int) -> float | None:
    """Return the seconds of the loop; None where the build has none for so many."""
    if people == 1:
        noise = Noise(0, frames)
        with moshi.session(seed=0) as session:
            start = time.perf_counter()
            moshi_mlx.converse(session, noise, noise)
            return time.perf_counter() - start
    try:
        from moshi_mlx.runtime.engine import converse_together
    except ImportError:
        return None
    batch = moshi.batch(people)
    parties = {batch.join(seed=who): Noise(who, frames) for who in range(people)}
    start = time.perf_counter()
    converse_together({session: (noise, noise) for session, noise in parties.items()})
    seconds = time.perf_counter() - start
    for session in parties:
        session.close()
    return seconds


main()
