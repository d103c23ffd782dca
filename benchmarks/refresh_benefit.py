"""Whether a long conversation goes better when the model forgets its older part at pauses.

    python benchmarks/refresh_benefit.py [--questions 60] [--kept 2 4] [--out FILE]

Nano is asked the questions of its demo in one conversation, in an order drawn by a seed and with pauses of a few
seconds, many times longer than its window. Counted are the answers that are right to the word.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from moshi_mlx.audio.files import read_audio
from moshi_mlx.bench.scene import scene
from moshi_mlx.checkpoint import nano
from moshi_mlx.cli.tables import table
from moshi_mlx.conversation.trimming import ContextTrimmer
from moshi_mlx.frames import FRAME_SAMPLES, SAMPLE_RATE, split_frames
from moshi_mlx.runtime.moshi import Moshi, load

PAUSE = 3.0, 5.0  # seconds after a question, its answer included


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=60)
    parser.add_argument("--kept", type=float, nargs="+", default=[2.0, 4.0], help="seconds that outlast a refresh")
    parser.add_argument("--out", type=Path, default=Path(".bench/refresh.json"))
    options = parser.parse_args()
    moshi = load("nano")
    asked = conversation(options.questions)
    runs = [talk(moshi, asked, kept) for kept in (None, *options.kept)]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({"scene": scene(), "runs": runs}, indent=1))
    rows = [
        (run["kept_s"] or "never refreshed", run["refreshes"], f"{run['right']} of {run['asked']}") for run in runs
    ]
    print(table(rows, ("seconds kept", "refreshes", "right answers")))


def conversation(count: int) -> list[tuple[str, np.ndarray]]:
    """Questions and their sound with a pause behind, whole frames. Not the one that interrupts."""
    pcm, captions = read_audio(nano.RECORDING).pcm, nano.captions()[:-1]
    rng = np.random.default_rng(1)
    turns = []
    for caption in (captions[index] for index in rng.integers(0, len(captions), count)):
        said = pcm[round(caption["begin"] * SAMPLE_RATE) : round(caption["end"] * SAMPLE_RATE)]
        frames = round((len(said) + rng.uniform(*PAUSE) * SAMPLE_RATE) / FRAME_SAMPLES)
        sound = np.zeros(frames * FRAME_SAMPLES, np.float32)
        sound[: len(said)] = said
        turns.append((caption["text"], sound))
    return turns


def talk(moshi: Moshi, turns: list[tuple[str, np.ndarray]], kept: float | None) -> dict[str, Any]:
    """One conversation. kept: seconds that outlast a refresh, None for no refresh."""
    answers, right, refreshes = nano.questions(), 0, 0
    with moshi.session(seed=1) as session:
        trimmer = ContextTrimmer(session, kept or 1.0, automatic=kept is not None)
        for question, sound in turns:
            said = ""
            for frame in split_frames(sound):
                if trimmer.due(frame):
                    session.trim()
                    refreshes += 1
                reply = session.step(frame)
                trimmer.write(reply)
                said += reply.text
            right += said.strip() == answers[question]
    return {"kept_s": kept, "refreshes": refreshes, "asked": len(turns), "right": right}


if __name__ == "__main__":
    main()
