"""Load time and peak memory at a published shape, Moshi 7B's unless told, with random weights (no download).

    python benchmarks/load_7b.py FOLDER [--shape moshi-7b] [--scheme q4|q8] [--steps N]

Writes the checkpoint into FOLDER unless it is there (4.8 GB for q4), then loads it in a fresh process.
`peak_over_parameters` is what MLX held at most over what the model needs, until all is loaded and laid out as
conversations use it; RSS counts the whole process. Prints one line of JSON.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path


def load(folder: Path, steps: int) -> None:
    """In the fresh process: load, step a few times, print the figures."""
    import mlx.core as mx
    import numpy as np

    from moshi_mlx.checkpoint.checkpoint import Checkpoint
    from moshi_mlx.models.layers import parameter_bytes

    start = time.perf_counter()
    checkpoint = Checkpoint.resolve(str(folder))
    lm = checkpoint.load_lm()
    lm.fuse()
    seconds = time.perf_counter() - start
    parameters = parameter_bytes(lm)
    result = {
        "tensors": len(checkpoint.weights.tensors),
        "load_seconds": round(seconds, 2),
        "parameter_GB": round(parameters / 1e9, 3),
        "peak_over_parameters": round(mx.get_peak_memory() / parameters, 4),
        "rss_peak_GB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 3),
        "device": str(mx.default_device()),
        "mlx": version("mlx"),
    }
    if steps:
        from moshi_mlx.runtime.moshi import Moshi

        codec = checkpoint.load_codec("mlx")
        session = Moshi(lm, codec, checkpoint.load_tokenizer()).session(seed=1)
        times = []
        for codes in np.random.RandomState(0).randint(0, 2048, (steps, lm.config.input_codebooks)):
            start = time.perf_counter()
            session.generate(codes)
            times.append(round(time.perf_counter() - start, 3))
        result["step_seconds"] = times
    print(json.dumps(result))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shape", default="moshi-7b", help="One of `moshi-mlx bench --shape`.")
    parser.add_argument("--scheme", default="q4")
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        load(options.folder, options.steps)
        return
    if not options.folder.exists():
        from moshi_mlx.bench.shapes import shape
        from moshi_mlx.checkpoint.random_checkpoint import TINY_MIMI, write_random_checkpoint

        mimi = TINY_MIMI | {"quantizer": TINY_MIMI["quantizer"] | {"bins": 2048, "n_q": 32}}
        start = time.perf_counter()
        write_random_checkpoint(options.folder, shape(options.shape), mimi, layout="mlx", scheme=options.scheme)
        print(f"wrote {options.folder} in {time.perf_counter() - start:.0f} s", file=sys.stderr)
    arguments = [str(options.folder), "--measure", "--steps", str(options.steps)]
    subprocess.run([sys.executable, __file__, *arguments], check=True)


if __name__ == "__main__":
    main()
