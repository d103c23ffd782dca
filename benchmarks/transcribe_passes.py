"""How many passes through the model a transcription takes, and what a pass costs.

    python benchmarks/transcribe_passes.py
    scripts/with_blas.sh python benchmarks/transcribe_passes.py --seconds

Nobody's weights are needed: the text is forced. `word_times.json` says when the words of spoken sentences begin
and which pieces they are written in (see `make_word_times.py`); they are placed into the text stream as in the
training of Moshi's family, and the passes are counted that decoding would take. With --seconds passes of K rows
are timed against a step of one, and against steps of B recordings: layers of stt-1b, float32, random weights.
"""

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from moshi_mlx.bench.scene import scene
from moshi_mlx.cli.tables import table
from moshi_mlx.frames import FRAME_RATE
from moshi_mlx.models.config import LmConfig, TransformerConfig
from moshi_mlx.models.layers import parameter_bytes
from moshi_mlx.models.lm import Lm
from moshi_mlx.planning.planner import size_of
from moshi_mlx.tasks.speculation import AHEAD, Drafter, PaddingDrafter, TextDrafter, count_passes

WORDS = Path(__file__).parent / "word_times.json"
PADDING, BOUNDARY = 3, 0
LEAD = 0.5  # seconds before the first word
GAP = 0.4  # seconds between sentences of dense speech

STT_1B = LmConfig(
    transformer=TransformerConfig(2048, 16, 16, 5632, 750, max_period=100_000),
    depth=None,
    text_card=8000,
    card=64,  # of embeddings only: a pass reads a row of each
    n_q=32,
    delays=(0,) * 33,
)
BARS = {"dense": 1.8, "half silence": 3.0}  # frames a pass, at the usual `ahead`, for speech of any rate here


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", action="store_true", help="time passes, too")
    parser.add_argument("--layers", type=int, default=4, help="layers of the timed model; stt-1b has 16")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path(".bench/transcribe.json"))
    options = parser.parse_args()
    found: dict[str, Any] = {"scene": scene(), "passes": list(counted())}
    columns = ("speech", "words/s", "frames", "ahead", "padding", "text", "GB a minute, stepping", "text")
    print(table([tuple(row.values()) for row in found["passes"]], columns))
    worst = {
        kind: min(row["text"] for row in found["passes"] if row["ahead"] == AHEAD and kind in row["speech"])
        for kind in BARS
    }
    for kind, value in worst.items():
        print(f"{kind}: at least {value} frames a pass; bar {BARS[kind]}")
    if options.seconds:
        found["times"] = timed(options.layers, options.rounds)
        columns = ("at once", "ms at best", "CPU ms", "low", "high", "of one step", "per frame")
        print(table([tuple(row.values()) for row in found["times"]], columns))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(found, indent=1))
    if any(value < BARS[kind] for kind, value in worst.items()):
        raise SystemExit(1)


def counted() -> Iterator[dict[str, Any]]:
    """Count frames a pass for every rate of speech, dense and half silent."""
    utterances = json.loads(WORDS.read_text(encoding="utf-8"))
    for rate in utterances[0]["seconds"]:
        for kind in "dense", "half silence":
            texts, words_per_second = text_stream(utterances, rate, kind == "half silence")
            for ahead in (8, AHEAD, 32):
                drafters: tuple[Drafter, ...] = (PaddingDrafter(PADDING), TextDrafter(PADDING, BOUNDARY))
                padding, text = (len(texts) / count_passes(texts, one, ahead) for one in drafters)
                stepping = 60 * FRAME_RATE * size_of(STT_1B).frame_bytes(bits=16, context=0) / 1e9
                yield {
                    "speech": f"{kind}, rate {rate}",
                    "words_per_second": round(words_per_second, 2),
                    "frames": len(texts),
                    "ahead": ahead,
                    "padding": round(padding, 2),
                    "text": round(text, 2),
                    "stepping_GB": round(stepping),
                    "text_GB": round(stepping / text),
                }


def text_stream(utterances: list[dict[str, Any]], rate: str, half: bool) -> tuple[list[int], float]:
    """Place all words into one text stream. half: as much silence after every sentence as it lasts.

    A word's first piece stands in the frame that holds its start, and takes the place of what is left of the word
    before; the frame before it becomes a boundary if it was padding. Returns tokens, and words a second.
    Source: moshi-finetune, `Interleaver`.
    """
    words: list[tuple[float, list[int]]] = []
    now = LEAD
    for one in utterances:
        words += [(now + start, pieces) for start, pieces in zip(one["starts"][rate], one["pieces"], strict=True)]
        now += one["seconds"][rate] * (2 if half else 1) + (0 if half else GAP)
    texts = [PADDING] * int(now * FRAME_RATE)
    pending: list[int] = []
    coming = iter(words)
    following = next(coming, None)
    for frame in range(len(texts)):
        while following and following[0] * FRAME_RATE < frame + 1:
            pending = list(following[1])
            following = next(coming, None)
            if frame and texts[frame - 1] == PADDING:
                texts[frame - 1] = BOUNDARY
        if pending:
            texts[frame] = pending.pop(0)
    return texts, len(words) / now


def timed(layers: int, rounds: int) -> list[dict[str, Any]]:
    """Time steps of one row, passes of K rows and steps of B recordings in turns, the window full.

    Processor time beside that of the clock: where other programs run, it is the fairer one.
    """
    lm = Lm(replace(STT_1B, transformer=replace(STT_1B.transformer, num_layers=layers)))
    mx.eval(lm.parameters())
    lm.fuse()
    print(f"{layers} layers and the text head, {parameter_bytes(lm) / 1e9:.2f} GB of float32")
    cases = [(1, count) for count in (1, 2, 4, 8, 16, 32)] + [(batch, 1) for batch in (2, 4, 8, 16)]
    states = {case: lm.new_state(batch=case[0], step=case[1]) for case in cases}
    times: dict[tuple[int, int], list[tuple[float, float]]] = {case: [] for case in cases}
    for turn in range(rounds + 1):
        for case, state in states.items():
            batch, count = case
            state.temporal.position = 1000  # of a window of 750: full
            state.temporal.running[:] = True
            tokens = mx.array(np.full((batch, 33, count), 5, np.int32))
            start, start_cpu = time.perf_counter(), time.process_time()
            texts = mx.argmax(lm.text_linear(lm.temporal(tokens, state)), axis=-1)
            mx.eval(texts, state.arrays())
            taken = 1000 * (time.perf_counter() - start), 1000 * (time.process_time() - start_cpu)
            if turn:  # the first one traces
                times[case].append(taken)
    one = statistics.median(cpu for _, cpu in times[1, 1])
    return [
        {
            "at_once": f"{count} frames of a recording" if batch == 1 else f"{batch} recordings",
            "low": round(min(wall for wall, _ in each)),
            "cpu": round(cpu := statistics.median(cpu for _, cpu in each)),
            "cpu_low": round(min(cpu for _, cpu in each)),
            "cpu_high": round(max(cpu for _, cpu in each)),
            "of_one": round(cpu / one, 2),
            "per_frame": round(cpu / (batch * count)),
        }
        for (batch, count), each in times.items()
    ]


if __name__ == "__main__":
    main()
