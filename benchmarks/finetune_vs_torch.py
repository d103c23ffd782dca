"""A step of `finetune --full` against PyTorch's on the CPU, alternating: frames a second, peak memory.

    python benchmarks/finetune_vs_torch.py --torch-python PYTHON [--batch 8] [--frames 100] [--rounds 8]
        [--steps 4] [--threads CORES] [--json]

PYTHON has PyTorch and moshi 0.2.13. Both sides train all weights of a model of Nano's shape in float32 from the
same codes: the paper's loss, clipped gradients, AdamW, nothing recomputed. Ours computes on as many cores as
PyTorch has threads, with OpenBLAS where the machine has it; PyTorch with the BLAS that it brings.
Bars: at least 0.8 times PyTorch's frames a second, at most 0.7 times its memory (peak resident size).
"""

import argparse
import json
import os
import statistics
import sys
from pathlib import Path
from typing import Any

from workers import Worker, alternate, speed_up

from moshi_mlx.bench.scene import scene
from moshi_mlx.checkpoint.nano import FOLDER

ROOT = Path(__file__).parents[1]


def compare(torch_python: str, batch: int, frames: int, rounds: int, steps: int, threads: int) -> dict[str, Any]:
    """Milliseconds a step of both and their ratio, round by round; frames a second; peak bytes."""
    config = FOLDER / "config.json"
    workers = {
        "ours": Worker(sys.executable, "worker_train_ours.py", batch, frames, package=ROOT, blas=True),
        "torch": Worker(torch_python, "worker_train_peer.py", config, batch, frames, threads),
    }
    medians = alternate(workers, rounds, steps, warm_up=2)
    ours, theirs = (medians[name] for name in workers)
    times = speed_up(ours["step"], theirs["step"])
    peaks = {name: max(found["peak"]) for name, found in medians.items()}
    return {
        "what": f"training step, Nano's shape, {batch} windows of {frames} frames, {threads} threads",
        **times,
        "ours_frames_per_second": round(1000 * batch * frames / statistics.median(ours["step"])),
        "theirs_frames_per_second": round(1000 * batch * frames / statistics.median(theirs["step"])),
        "ours_peak_gb": round(peaks["ours"] / 1e9, 3),
        "theirs_peak_gb": round(peaks["torch"] / 1e9, 3),
        "memory_ratio": round(peaks["ours"] / peaks["torch"], 2),
        "rounds": rounds,
        "steps": steps,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch-python", required=True)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    result = compare(given.torch_python, given.batch, given.frames, given.rounds, given.steps, given.threads)
    result |= {"scene": scene()}
    print(json.dumps(result) if given.json else "\n".join(f"{key}: {value}" for key, value in result.items()))


if __name__ == "__main__":
    main()
