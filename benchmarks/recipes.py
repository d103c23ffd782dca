"""`make recipes`: what each recipe does to what a model says, and whether searched and calibrated ones do less.

    scripts/with_blas.sh python benchmarks/recipes.py [--model nano] [--questions 12] [--out .bench/recipes.json]

Recipes are searched and levels calibrated on some of one half of Nano's questions, and judged on the other half,
asked by other voices (flite's). Fails where a searched recipe is not closer to the dense model than the uniform
one of as many bytes. The table goes to stdout in Markdown, all figures to a JSON file, the recipes next to it.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from moshi_mlx.audio.file_stream import FileSource
from moshi_mlx.audio.files import read_audio
from moshi_mlx.bench.scene import scene
from moshi_mlx.checkpoint import nano
from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.codec.base import Codec
from moshi_mlx.models.layers import QuantizedEmbedding, parameter_bytes, weight_bytes
from moshi_mlx.models.lm import Lm, widen_on_cpu
from moshi_mlx.planning.planner import size_of
from moshi_mlx.quality.budget import importance
from moshi_mlx.quality.candidates import apply_recipe, dense_twin
from moshi_mlx.quality.conversations import Conversation, hear, talk
from moshi_mlx.quality.evaluator import Measured, Quality, figures
from moshi_mlx.quality.metrics import Bootstrap, Differences
from moshi_mlx.quality.search import choose, measure, prices
from moshi_mlx.quantize.levels import calibrated
from moshi_mlx.weights.quantization import RECIPES, Recipe, Scheme

SEARCH_VOICES, JUDGE_VOICES = ("kal", "awb"), ("rms", "kal16")
PAUSE = 3.2  # seconds after a question, to answer in
AT_ONCE = 6  # questions in one conversation

UNIFORM = {
    **{name: RECIPES[name] for name in ("q8", "q6", "q5", "q4", "q4-g64")},
    "q3-g64": Recipe("q3-g64", Scheme(3, 64)),
}
CALIBRATED = ("q8", "q4", "q4-g64", "q3-g64")
ENDS = ("text_linear", "text_emb", "depformer.slices.*.linear_out", "transformer.layers.0.*")
OTHERS = {
    **{name: RECIPES[name] for name in ("mxfp8", "mxfp4", "nvfp4", "mixed")},
    "ends": Recipe("ends", RECIPES["q4"].scheme, {path: Scheme(8, 64).block() for path in ENDS}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=nano.NAME)
    parser.add_argument("--questions", type=int, default=12, help="to search on")
    parser.add_argument("--out", type=Path, default=Path(".bench/recipes.json"))
    options = parser.parse_args()
    if not shutil.which("flite"):
        sys.exit("flite is not installed: it asks the questions (scripts/system_packages.sh)")
    bench = Bench(options.model, options.questions)
    report = bench.run(options.out.with_suffix(""))
    options.out.write_text(json.dumps(report, indent=1))
    print(markdown(report))
    searched = [row for row in report["rows"] if row["recipe"].startswith("mixed-")]
    lost = [row["recipe"] for row in searched if row["ratio"]["value"] >= 1]
    if lost:
        sys.exit(f"not closer than the uniform recipe of as many bytes: {', '.join(lost)}")


class Bench:
    """A model, the conversations that recipes are made with, and those they are judged on."""

    def __init__(self, model: str, questions: int) -> None:
        self.checkpoint = Checkpoint.resolve(model)
        codec, lm = self.checkpoint.load_codec("auto"), self.load()
        widen_on_cpu(lm)
        asked = list(nano.questions())
        self.searched = self._talk(lm, codec, asked[0::2][:questions], SEARCH_VOICES)
        judged = self._talk(lm, codec, asked[1::2], JUDGE_VOICES)
        self.measured = Measured(lm, judged)
        self.columns: dict[str, Differences] = {}

    def load(self) -> Lm:
        return self.checkpoint.load_lm(mx.float32)

    def run(self, folder: Path) -> dict[str, Any]:
        """Judge every recipe; searched ones are written to `folder`. Returns the report."""
        started = time.perf_counter()
        dense = self.load()
        expected = measure(dense, self.searched)
        found = prices(dense, expected)
        search_seconds = time.perf_counter() - started
        matters = importance(dense, self.searched)
        rows = [self._row("bf16", RECIPES["bf16"])]
        folder.mkdir(parents=True, exist_ok=True)
        for name, recipe in UNIFORM.items():
            uniform = self._row(name, recipe)
            rows.append(uniform)
            if name in CALIBRATED:
                rows.append(self._row(f"{name} calibrated", recipe, matters, against=name))
            searched = choose(dense, expected, found, uniform["bytes"], f"mixed-{name}")
            (folder / f"{searched.name}.json").write_text(json.dumps(searched.as_json(), indent=1))
            rows.append(self._row(searched.name, searched, against=name))
            if name in CALIBRATED:
                rows.append(self._row(f"{searched.name} calibrated", searched, matters, against=name))
        rows += [self._row(name, recipe) for name, recipe in OTHERS.items()]
        return {
            "scene": scene(),
            "model": self.checkpoint.name,
            "search_steps": sum(map(len, self.searched)),
            "judged_steps": sum(map(len, self.measured.conversations)),
            "search_seconds": round(search_seconds, 1),
            "rows": rows,
        }

    def _row(
        self,
        name: str,
        recipe: Recipe,
        matters: Mapping[str, np.ndarray] | None = None,
        against: str | None = None,
    ) -> dict[str, Any]:
        lm = self.load()
        apply_recipe(lm, recipe)
        if matters:
            calibrate(lm, self.load(), matters)
        config = lm.config
        read = weight_bytes(lm) + size_of(config).window_bytes(config.transformer.context)
        size = parameter_bytes(lm)
        dense_twin(lm)
        widen_on_cpu(lm)
        self.columns[name] = self.measured.differences(lm)
        print(f"{name}: {size / 1e6:.2f} MB, {self.columns[name].kl.sum(axis=1).mean():.3g}", file=sys.stderr)
        row = summary(figures(name, self.columns[name], size, round(read)))
        return {**row, "ratio": self._ratio(name, against) if against else None}

    def _ratio(self, name: str, against: str) -> dict[str, float]:
        """Divergence of one recipe over that of another, on the same steps."""
        ours, theirs = (self.columns[one].kl.sum(axis=1) for one in (name, against))
        estimate = Bootstrap(len(ours)).estimate(ours, theirs, of=lambda a, b: a / b)
        return {"value": estimate.value, "low": estimate.low, "high": estimate.high}

    def _talk(self, lm: Lm, codec: Codec, questions: Sequence[str], voices: Sequence[str]) -> list[Conversation]:
        heard = []
        for index, first in enumerate(range(0, len(questions), AT_ONCE)):
            pcm = spoken(questions[first : first + AT_ONCE], voices[index % len(voices)])
            heard.append(hear(codec, lm.config, FileSource(pcm, 0.5, 1.0)))
        return talk(lm, heard, self.checkpoint.sampling)


def spoken(questions: Sequence[str], voice: str) -> np.ndarray:
    """Questions with pauses after them, float32 at 24 kHz."""
    parts = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "question.wav"
        for question in questions:
            subprocess.run(["flite", "-voice", voice, "-t", question, path], check=True)
            pcm = read_audio(path).pcm
            parts += [0.5 * pcm / np.abs(pcm).max(), np.zeros(round(PAUSE * 24_000))]
    return np.concatenate(parts).astype(np.float32)


def calibrate(quantized: Lm, dense: Lm, weights: Mapping[str, np.ndarray]) -> None:
    """Choose the levels of a quantized model anew, in place.

    dense: the model it was made from. weights: path of a layer -> how much each of its inputs matters.
    """
    originals = dict(dense.named_modules())
    done: dict[int, tuple[mx.array, ...]] = {}  # steps that share an array go on sharing it
    for path, layer in quantized.named_modules():
        if not isinstance(layer, nn.QuantizedLinear | QuantizedEmbedding) or layer.mode != "affine":
            continue
        key = id(layer.weight)
        if key not in done:
            scheme = Scheme(layer.bits, layer.group_size)
            done[key] = (layer.weight, *calibrated(originals[path].weight, scheme, weights.get(path)))
        layer.weight, layer.scales, layer.biases = done[key][1:]
    mx.eval(quantized.parameters())


def summary(quality: Quality) -> dict[str, Any]:
    """What a row of the table says."""
    whole = quality.as_dict()
    names = ("bytes", "bytes_per_frame", "kl", "kl_text", "kl_audio", "top1_text", "top1_audio", "hidden_error")
    return {"recipe": quality.candidate, **{name: whole[name] for name in names}}


def markdown(report: dict) -> str:
    """The table of RESULTS.md."""
    lines = [
        "| recipe | MB | MB a frame | KL, nats a step | top-1 text | top-1 audio | KL over the uniform one's |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in report["rows"]:
        kl, ratio = row["kl"], row["ratio"]
        cells = [
            row["recipe"],
            f"{row['bytes'] / 1e6:.2f}",
            f"{row['bytes_per_frame'] / 1e6:.2f}",
            f"{kl['value']:.2g} ({kl['low']:.1g} - {kl['high']:.1g})",
            f"{row['top1_text']['value']:.2%}",
            f"{row['top1_audio']['value']:.2%}",
            f"{ratio['value']:.2f} ({ratio['low']:.2f} - {ratio['high']:.2f})" if ratio else "",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
