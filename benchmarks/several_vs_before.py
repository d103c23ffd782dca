"""People who talk at once, by this build and by the first one, in turns: time of a frame, same words.

    scripts/with_blas.sh python benchmarks/several_vs_before.py [--before FOLDER] [--rounds 6] [--frames 30]

FOLDER holds the `moshi_mlx` of commit 627c479; it is taken from the history unless given. Both run Nano in this
environment with the MLX codec, as `Batch.step` and, where a build has it for so many, in the loop over recordings.
Also: Mimi at its published shape, four rows of one state against four states, in one process. Fails when a gate
is missed or words differ.
"""

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from gates import SEVERAL_GATES, missed
from workers import Worker, alternate, speed_up

from moshi_mlx.bench.scene import scene
from moshi_mlx.cli.tables import table
from moshi_mlx.codec.base import CodecStream
from moshi_mlx.codec.mlx import MlxStreams
from moshi_mlx.frames import silence
from moshi_mlx.models.layers import keep_transposes
from moshi_mlx.models.mimi import Mimi
from moshi_mlx.models.mimi_config import MIMI

HERE = Path(__file__).resolve().parents[1]
FIRST = "627c479"
PEOPLE = (1, 4, 16)
TIMED = ("step", "loop")


def first_build() -> Path:
    """Return a folder with the package as commit 627c479 has it."""
    folder = HERE / ".bench" / FIRST
    if not folder.exists():
        packed = subprocess.run(["git", "archive", FIRST, "moshi_mlx"], cwd=HERE, stdout=subprocess.PIPE)
        if packed.returncode:
            sys.exit(f"error: commit {FIRST} is not in this history; git fetch --unshallow")
        with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as files:
            files.extractall(folder, filter="data")
    return folder


def several_vs_before(before: Path, rounds: int, frames: int) -> dict[str, Any]:
    """Return figures by the names of the gates, and whether both said the same."""
    found: dict[str, Any] = {"same": True}
    for people in PEOPLE:
        sides = _alternate({"now": (HERE, people), "before": (before, people)}, rounds, frames)
        found["same"] &= _words(sides["now"]) == _words(sides["before"])
        found[f"step_{people}"] = speed_up(sides["now"]["step"], sides["before"]["step"])
        theirs = sides["before"].get("loop", sides["before"]["step"])  # it had no loop for several
        found[f"loop_{people}"] = speed_up(sides["now"]["loop"], theirs)
    sides = _alternate({"now": (HERE, 32), "before": (before, 16)}, rounds, frames)
    for what in TIMED:
        found[f"{what}_32"] = _share(sides["now"][what], sides["before"]["step"])
    with _stock_blas():
        sides = _alternate({"now": (HERE, 16), "before": (before, 16)}, max(2, rounds // 2), frames)
    found["plain_16"] = speed_up(sides["now"]["step"], sides["before"]["step"])
    found["mimi_4"] = rows_of_mimi(4, rounds)
    return found


def _alternate(sides: dict[str, tuple[Path, int]], rounds: int, frames: int) -> dict[str, dict[str, list[float]]]:
    workers = {
        name: Worker(sys.executable, "worker_several.py", "nano", people, package=package.resolve())
        for name, (package, people) in sides.items()
    }
    return alternate(workers, rounds, frames, warm_up=frames)


def _words(timed: dict[str, list[float]]) -> set[str]:
    return set(timed) - set(TIMED)


def _share(ours: list[float], theirs: list[float]) -> dict[str, Any]:
    """As `speed_up`, but how much of their time ours takes."""
    found = speed_up(theirs, ours)
    found["ours_ms"], found["theirs_ms"] = found["theirs_ms"], found["ours_ms"]
    return found


@contextmanager
def _stock_blas() -> Iterator[None]:
    """Let programs started within have the BLAS that MLX's wheel comes with."""
    preloaded = os.environ.pop("LD_PRELOAD", None)
    try:
        yield
    finally:
        if preloaded is not None:
            os.environ["LD_PRELOAD"] = preloaded


def rows_of_mimi(rows: int, rounds: int) -> dict[str, Any]:
    """Encode and decode a frame of so many streams at the published shape, together and one after another."""
    mimi = Mimi(MIMI, 8)
    mx.eval(mimi.parameters())
    keep_transposes(mimi)
    together, apart = MlxStreams(mimi, MIMI.bins), MlxStreams(mimi, MIMI.bins)
    company: list[CodecStream] = [together.stream() for _ in range(rows)]
    loners: list[CodecStream] = [apart.stream() for _ in range(rows)]
    codes = np.zeros(8, np.int32)

    def step(streams: MlxStreams, people: list[CodecStream]) -> None:
        streams.encode({stream: silence() for stream in people})()
        streams.decode(dict.fromkeys(people, codes))()

    def time_of(work: Callable[[], None]) -> float:
        times = []
        for _ in range(5):
            start = time.perf_counter()
            work()
            times.append(1000 * (time.perf_counter() - start))
        return statistics.median(times)

    def each() -> None:
        for stream in loners:
            step(apart, [stream])

    sides = {"together": lambda: step(together, company), "apart": each}
    timed: dict[str, list[float]] = {name: [] for name in sides}
    for work in sides.values():  # to warm up
        work()
    for _ in range(rounds):
        for name, work in sides.items():
            timed[name].append(time_of(work))
    return speed_up(timed["together"], timed["apart"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--frames", type=int, default=30)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    where, found = scene(), several_vs_before(options.before or first_build(), options.rounds, options.frames)
    if options.json:
        print(json.dumps({"scene": where, **found}))
    else:
        print(several_table(found))
    same = [] if found["same"] else ["the two builds say different words"]
    if failures := [*same, *missed(ratios_of(found), SEVERAL_GATES)]:
        sys.exit("error: " + "; ".join(failures))


def ratios_of(found: dict[str, Any]) -> dict[str, float]:
    """Return the figure of each gate."""
    return {name: row["speed_up"] for name, row in found.items() if name != "same"}


def several_table(found: dict[str, Any]) -> str:
    """Return the figures for people; rows of 32 are the time now over that of 16 before."""
    rows = [
        (name, row["ours_ms"], row["theirs_ms"], row["speed_up"], "{} - {}".format(*row["speed_up_range"]))
        for name, row in found.items()
        if name != "same"
    ]
    return table(rows, ("ms a frame of all", "now", "before", "ratio", "rounds"))


if __name__ == "__main__":
    main()
