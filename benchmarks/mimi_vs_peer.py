"""Our Mimi in MLX against the peer's Mimi in MLX and against rustymimi, alternating in one run.

    python benchmarks/mimi_vs_peer.py [--rounds 8] [--frames 12] [--peer-python PYTHON] [--json]

One stream, 8 codebooks, random weights of the published shape; a frame is encoded, then its codes are decoded.
All run on the machine's default device, rustymimi on the CPU.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from peer_environment import peer_python
from workers import Worker, alternate, speed_up

from moshi_mlx.bench.scene import scene
from moshi_mlx.checkpoint.random_checkpoint import TINY, write_random_checkpoint


def mimi_vs_peer(peer: str, rounds: int, frames: int) -> dict[str, dict[str, Any]]:
    """Times of encode and decode and their ratios: "<direction>_<other>" -> figures."""
    with tempfile.TemporaryDirectory() as folder:
        file = write_random_checkpoint(Path(folder) / "codec", {**TINY, "card": 2048}, None) / "mimi.safetensors"
        workers = {
            "ours": Worker(sys.executable, "worker_mimi_ours.py", file),
            "peer": Worker(peer, "worker_mimi_peer.py", "mlx", file),
            "rust": Worker(peer, "worker_mimi_peer.py", "rust", file),
        }
        medians = alternate(workers, rounds, frames, warm_up=5)
    names = {"peer": "the peer's MLX Mimi", "rust": "rustymimi"}
    return {
        f"{direction}_{other}": {
            "what": f"Mimi {direction}, against {name}",
            **speed_up(medians["ours"][direction], medians[other][direction]),
            "rounds": rounds,
            "frames": frames,
        }
        for other, name in names.items()
        for direction in ("encode", "decode")
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", help="built under .bench unless given")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results = mimi_vs_peer(options.peer_python or peer_python(), options.rounds, options.frames)
    if options.json:
        print(json.dumps({"scene": scene(), "results": results}))
    else:
        print("\n".join(str(result) for result in results.values()))


if __name__ == "__main__":
    main()
