"""Mimi in MLX against rustymimi in a conversation: which one should `--codec auto` be?

    scripts/with_blas.sh python benchmarks/codec_choice.py [--rounds 20] [--frames 12] [--others 0.05] [--json]

The published shape of Mimi with random weights, beside a language model of Nano's shape; for comparison, Nano with
its own codec, and rustymimi in the minute in which one process hands over to the next. In every round each
contestant runs some frames, and they take turns at being the first. Three figures, ms a frame: encode and decode
with nothing beside them; a frame through all three stages, one after the other, which is what an answer waits for;
and the time between two replies of a conversation that runs as fast as it can, which must stay below 80. What was
measured while other programs took more of the machine than --others is measured again. `taskset -c 0` in front
shows what one core does.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from quiet import Others, wait_until_quiet

from moshi_mlx.bench.scene import scene
from moshi_mlx.bench.shapes import random_lm
from moshi_mlx.checkpoint import nano
from moshi_mlx.checkpoint.random_checkpoint import TINY, write_random_checkpoint
from moshi_mlx.codec.load import load_codec
from moshi_mlx.codec.rust import Direction, Handover, RustCodec
from moshi_mlx.models.config import LmConfig
from moshi_mlx.models.mimi_config import MIMI
from moshi_mlx.runtime.engine import converse
from moshi_mlx.runtime.moshi import Moshi, load
from moshi_mlx.runtime.reply import Reply
from moshi_mlx.runtime.session import Session
from moshi_mlx.runtime.wordless import wordless

FIGURES = ("encode", "decode", "encode + decode", "one frame, stages in turn", "a conversation")
HANDOVER = "rust, handing over"
WARM_UP = 12  # frames


class Noise:
    """Frames of noise that are there at once; and the sink that notes when replies come."""

    def __init__(self, frames: int) -> None:
        self.replied: list[float] = []
        self._frames = 0.1 * np.random.default_rng(1).standard_normal((frames, 1920)).astype(np.float32)

    def __iter__(self) -> Iterator[np.ndarray]:
        yield from self._frames

    def close(self) -> None:
        pass

    def write(self, reply: Reply) -> None:
        self.replied.append(time.perf_counter())


def contestants(folder: Path) -> dict[str, Moshi]:
    """Name -> a model with the codec that is measured."""
    path = write_random_checkpoint(folder / "codec", {**TINY, "card": MIMI.bins}, None) / "mimi.safetensors"
    config = json.loads((nano.FOLDER / "config.json").read_text())
    lm = random_lm(LmConfig.from_dict({**config, "card": MIMI.bins}), "f32")
    codecs = {kind: load_codec(path, MIMI, lm.config.codebooks, kind) for kind in ("mlx", "rust")}
    codecs[HANDOVER] = RustCodec(path, lm.config.codebooks, Handover(start=1, history=10**9))
    return {**{name: wordless(lm, codec) for name, codec in codecs.items()}, "nano": load("nano")}


def codec_alone(session: Session, noise: Noise) -> dict[str, float]:
    """Encode and decode, ms a frame: medians."""
    encoding, decoding = [], []
    stream = session.stream
    for frame in noise:
        start = time.perf_counter()
        codes = stream.encode(frame)
        between = time.perf_counter()
        stream.decode(codes)
        encoding.append(between - start)
        decoding.append(time.perf_counter() - between)
    both = [sum(pair) for pair in zip(encoding, decoding, strict=True)]
    return {
        name: 1000 * statistics.median(times)
        for name, times in zip(FIGURES, (encoding, decoding, both), strict=False)
    }


def stages_in_turn(session: Session, noise: Noise) -> dict[str, float]:
    """A frame through all stages, one after the other, ms: the median."""
    times = []
    for frame in noise:
        start = time.perf_counter()
        session.step(frame)
        times.append(time.perf_counter() - start)
    return {FIGURES[3]: 1000 * statistics.median(times)}


def conversation(session: Session, noise: Noise) -> dict[str, float]:
    """The time between two replies of a conversation that runs as fast as it can, ms: the mean."""
    noise.replied = []
    converse(session, noise, noise)
    first, *_, last = noise.replied
    for direction in vars(session.stream).values():  # successors of rustymimi's processes have to keep up, too
        if isinstance(direction, Direction) and direction._successor:
            direction._successor.caught_up(0, wait=True)
            last = time.perf_counter()
    return {FIGURES[4]: 1000 * (last - first) / (len(noise.replied) - 1)}


MEASUREMENTS = {
    codec_alone: ["mlx", "rust", "nano"],
    stages_in_turn: ["mlx", "rust", "nano"],
    conversation: ["mlx", "rust", HANDOVER, "nano"],
}
"""What is measured of whom."""


def undisturbed(
    measure: Callable[[Session, Noise], dict[str, float]], session: Session, noise: Noise, most: float
) -> dict[str, float]:
    """Measure while the machine does little else: waits for that, and measures again where it was not so."""
    while True:
        wait_until_quiet(most)
        others = Others()
        found = measure(session, noise)
        share = others.share()
        if share <= most:
            print(f"{measure.__name__}: others took {share:.0%} of the machine", file=sys.stderr)
            return found
        print(f"{measure.__name__} again: others took {share:.0%} of the machine", file=sys.stderr)


def compare(rounds: int, frames: int, most: float) -> dict[str, Any]:
    """Contestant -> figure -> a value a round; the order turns round by round."""
    noise = Noise(frames)
    with tempfile.TemporaryDirectory() as folder:
        sessions = {name: moshi.session(seed=1) for name, moshi in contestants(Path(folder)).items()}
        found: dict[str, Any] = {name: {figure: [] for figure in FIGURES} for name in sessions}
        for measure, names in MEASUREMENTS.items():
            for name in names:
                measure(sessions[name], Noise(WARM_UP))
            for index in range(rounds):
                for name in names if index % 2 == 0 else reversed(names):
                    for figure, value in undisturbed(measure, sessions[name], noise, most).items():
                        found[name][figure].append(value)
        for session in sessions.values():
            session.close()
    return found


def lines(found: dict[str, Any]) -> Iterator[str]:
    """A Markdown table: medians of the rounds, lowest and highest; and rust over mlx, round by round."""
    yield f"| ms a frame | mlx | rust | rust over mlx | {HANDOVER} | nano, its own in mlx |"
    yield "|---|---|---|---|---|---|"
    for figure in FIGURES:
        mlx, rust, handing_over, own = (found[name][figure] for name in ("mlx", "rust", HANDOVER, "nano"))
        ratios = [b / a for a, b in zip(mlx, rust, strict=True)]
        columns = spread(mlx, 1), spread(rust, 1), spread(ratios, 2), spread(handing_over, 1), spread(own, 1)
        yield f"| {figure} | {' | '.join(columns)} |"


def spread(values: list[float], digits: int) -> str:
    """The median, and the lowest and highest value."""
    if not values:
        return ""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} – {max(values):.{digits}f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--others", type=float, default=0.05, help="share of the machine they may take")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    where = scene()
    found = compare(options.rounds, options.frames, options.others)
    print(json.dumps({"scene": where, "rounds": found}) if options.json else "\n".join(lines(found)))


if __name__ == "__main__":
    main()
