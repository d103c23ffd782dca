"""What each member of the family costs at its full shape, with random weights in q4: a table for RESULTS.md.

    python benchmarks/members.py FOLDER [SHAPE ...]

Bytes, tensors and the load's peak come from a checkpoint that is written into FOLDER, loaded in a fresh process
and removed again, one shape after the other (5.3 GB for the largest). Kernels and bytes read are `bench --counts`.
"personaplex-7b, 16 steps" is what PersonaPlex would cost if the steps of the user's codebooks were run as well.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

from moshi_mlx.bench.counts import count
from moshi_mlx.bench.shapes import SHAPES
from moshi_mlx.models.config import PERSONAPLEX_7B

MEMBERS = (
    "moshi-7b",
    "personaplex-7b",
    "stt-1b",
    "stt-2.6b",
    "hibiki-1b",
    "hibiki-2b",
    "hibiki-zero-3b",
    "tts-1.6b",
)
FRAMES = 24
ONE_VOICE = {"model_type": None, "delays": [0, 0, *[1] * 15]}  # none of the codebooks is told to be a user's


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("shapes", nargs="*", default=MEMBERS)
    given = parser.parse_args()
    print("| shape | tensors in the file | GB in memory | peak / parameters | kernels a frame | GB read a frame |")
    print("|---|---|---|---|---|---|")
    for name in given.shapes:
        loaded = load(given.folder / name, name)
        row(name, f"{loaded['tensors']} | {loaded['parameter_GB']:.3f} | {loaded['peak_over_parameters']:.3f}")
        if name == "personaplex-7b":
            row("personaplex-7b, 16 steps", "| |", PERSONAPLEX_7B | ONE_VOICE)


def load(folder: Path, name: str) -> dict[str, float]:
    """Write, load and remove a checkpoint; what `load_7b.py` says of it."""
    program = Path(__file__).with_name("load_7b.py")
    try:
        done = subprocess.run(
            [sys.executable, str(program), str(folder), "--shape", name], stdout=subprocess.PIPE, check=True
        )
        return json.loads(done.stdout)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def row(title: str, loaded: str, config: dict | None = None) -> None:
    """Print a line: a title, what was found at load, and the counts."""
    counts = count(title, config or SHAPES[title], "q4", FRAMES, contexts=(0,))
    print(f"| {title} | {loaded} | {counts.kernels} | {counts.traffic[0].total / 1e9:.3f} |", flush=True)


if __name__ == "__main__":
    main()
