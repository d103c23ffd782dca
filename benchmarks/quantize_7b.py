"""Peak memory, time and bytes of `moshi-mlx quantize` at the full Moshi 7B shape, random weights (no download).

    python benchmarks/quantize_7b.py FOLDER [--recipe q4 ...] [--layout torch|mlx] [--lora RANK] [--load]

Writes a bfloat16 checkpoint into FOLDER/source unless it is there (15.4 GB), then makes FOLDER/<recipe> of it in a
fresh process for every recipe, and removes it unless --keep. `peak_rss_GB` is the whole process, Python and MLX
included; `written_GB` is what the process gave the system to write, and `file_GB` what is there afterwards: equal
when the disk is written once. --lora merges a random adapter of all linear layers. --load loads what was made.
Prints one line of JSON a recipe; exit code 1 if a gate is missed (3 GB, written once).
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

MOST_GB = 3.0  # peak memory that issue 6 allows
TWICE = 1.01  # written bytes over the bytes of the files that count as once


def write_source(folder: Path, layout: str) -> None:
    """A random checkpoint whose weights repeat after 32 million: drawing all would take longer than the rest."""
    from moshi_mlx.checkpoint.random_checkpoint import (
        LM_NAME,
        TINY,
        TINY_MIMI,
        lm_tensors,
        write_random_checkpoint,
    )
    from moshi_mlx.models.config import MOSHI_7B, LmConfig
    from moshi_mlx.weights.safetensors import to_bits, write

    start = time.perf_counter()
    mimi = TINY_MIMI | {"quantizer": TINY_MIMI["quantizer"] | {"bins": 2048}}
    write_random_checkpoint(folder, {**TINY, "text_card": 32_000, "card": 2048}, mimi)
    names = {
        key: value for key, value in json.loads((folder / "config.json").read_text()).items() if "_name" in key
    }
    (folder / "config.json").write_text(json.dumps({**MOSHI_7B, **names}))
    pool = to_bits(np.random.default_rng(0).normal(0, 0.02, (1 << 25) + 1).astype(np.float32))
    tensors = lm_tensors(LmConfig.from_dict(MOSHI_7B), layout, None, "BF16")
    write(folder / LM_NAME, tensors, (np.resize(pool, tensor.shape) for tensor in tensors.values()))
    print(f"wrote {folder} in {time.perf_counter() - start:.0f} s", file=sys.stderr)


def write_adapter(folder: Path, rank: int) -> None:
    """An adapter of all linear layers, as moshi-finetune names them."""
    from moshi_mlx.models.config import MOSHI_7B, LmConfig
    from moshi_mlx.weights.key_map import torch_origin
    from moshi_mlx.weights.lm_weights import parameter_shapes
    from moshi_mlx.weights.safetensors import TensorInfo, write

    config = LmConfig.from_dict(MOSHI_7B)
    present = AnySplit()
    layout = {}
    for name, (rows, *columns) in parameter_shapes(config).items():
        if columns and "emb" not in name:
            module = torch_origin(name, config, present).key.removesuffix(".weight")
            layout[f"{module}.lora_A.weight"] = TensorInfo("BF16", (rank, *columns))
            layout[f"{module}.lora_B.weight"] = TensorInfo("BF16", (rows, rank))
    rng = np.random.default_rng(0)
    folder.mkdir()
    small = (rng.integers(0x3A00, 0x3C00, tensor.shape, np.uint16) for tensor in layout.values())
    write(folder / "lora.safetensors", layout, small)
    (folder / "config.json").write_text(json.dumps({**MOSHI_7B, "lora": True, "lora_scaling": 2.0}))


class AnySplit(list[str]):
    """The names of a file that has every attention projection split by step, as newer PyTorch code saves it."""

    def __contains__(self, name: object) -> bool:
        return "_projs." in str(name)


def convert(source: Path, target: Path, recipe: str, lora: Path | None) -> None:
    """In the fresh process: make the folder, print the figures."""
    from moshi_mlx.cli.main import main

    sys.argv = ["moshi-mlx", "quantize", str(source), str(target), "--recipe", recipe, "--quiet", "--json"]
    sys.argv += ["--lora", str(lora)] if lora else []
    start = time.perf_counter()
    try:
        main()
    except SystemExit as left:
        if left.code:
            raise
    usage = resource.getrusage(resource.RUSAGE_SELF)
    unit = 1 if sys.platform == "darwin" else 1024
    files = sum(path.stat().st_size for path in target.iterdir())
    result = {
        "recipe": recipe,
        "lora": lora is not None,
        "seconds": round(time.perf_counter() - start, 1),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_rss_GB": round(usage.ru_maxrss * unit / 1e9, 3),
        "file_GB": round(files / 1e9, 3),
        "written_GB": round(_written() / 1e9, 3),
        "mlx": version("mlx"),
    }
    print(json.dumps(result))


def _written() -> int:
    """Bytes that this process has written; 0 where the system does not count them."""
    try:
        lines = Path("/proc/self/io").read_text().splitlines()
    except OSError:
        return 0
    return int(dict(line.split(": ") for line in lines)["wchar"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--recipe", nargs="+", default=["q4"])
    parser.add_argument("--layout", choices=["torch", "mlx"], default="torch")
    parser.add_argument("--lora", type=int, default=0, metavar="RANK")
    parser.add_argument("--load", action="store_true")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    source, adapter = options.folder / "source", options.folder / "adapter"
    if options.measure:
        recipe, target = options.measure
        return convert(source, Path(target), recipe, adapter if options.lora else None)
    options.folder.mkdir(parents=True, exist_ok=True)
    if not source.exists():
        write_source(source, options.layout)
    if options.lora and not adapter.exists():
        write_adapter(adapter, options.lora)
    missed = False
    for recipe in options.recipe:
        target = options.folder / Path(recipe).stem
        again = [sys.executable, __file__, str(options.folder), "--lora", str(options.lora)]
        done = subprocess.run([*again, "--measure", recipe, str(target)], check=True, stdout=subprocess.PIPE)
        result = json.loads(done.stdout.splitlines()[-1])
        once = result["written_GB"] <= TWICE * result["file_GB"]
        missed |= result["peak_rss_GB"] > MOST_GB or not once
        print(json.dumps(result), flush=True)
        if options.load:
            load = [sys.executable, str(Path(__file__).with_name("load_7b.py")), str(target)]
            subprocess.run(load, check=True)
        if not options.keep:
            shutil.rmtree(target)
    sys.exit(int(missed))


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
