"""Quantize a model, measure what that changes, and let the smaller one answer.

    python examples/quantize_and_compare.py question.wav --model kyutai/moshiko-pytorch-bf16 --recipe q4

Both steps are commands, whose `--json` is made for programs. What `quantize` makes is a folder that `load` takes.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import moshi_mlx


def command(*words: str | Path) -> dict:
    """What `moshi-mlx WORDS --json` prints; its messages go to our stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "moshi_mlx", *words, "--json"], check=True, stdout=subprocess.PIPE, text=True
    )
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description="Quantize a model and say what that costs.")
    parser.add_argument("recording")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--recipe", default="q4")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder) / options.recipe
        made = command("quantize", options.model, small, "--recipe", options.recipe)
        print(f"{made['weights'] / 1e6:.1f} MB of weights, {made['bits_per_weight']:.2f} bits each")

        report = command("quality", options.model, small, "--audio", options.recording)
        (figures,) = report["candidates"]
        kl = figures["kl"]
        print(f"KL divergence {kl['value']:.2g} nats a step, 95 % between {kl['low']:.2g} and {kl['high']:.2g}")
        print(f"same likeliest text token at {figures['top1_text']['value']:.1%} of the steps")

        source = moshi_mlx.FileSource(moshi_mlx.read_audio(options.recording).pcm)
        with moshi_mlx.load(small).session(seed=1) as session:
            print(*(session.step(frame).text for frame in source), sep="")


if __name__ == "__main__":
    main()
