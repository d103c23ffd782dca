"""Our step against the peer's, alternating in one run.

    python benchmarks/step_vs_peer.py --peer-python PEER_ENV/bin/python [--width 64] [--kind dense|q4]
        [--rounds 12] [--frames 25] [--text-card 256] [--card 128] [--json]

The peer is moshi_mlx 0.3.0, installed with `pip install --no-deps moshi-mlx==0.3.0` beside the same MLX. Both
sides have random weights of the same shape and their own default sampling; each is a process that stays alive,
and they are driven in turn, round by round. The ratio is taken round by round, because the machine's speed drifts.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent


class Worker:
    """One side, alive for the whole run."""

    def __init__(self, python: str, script: str, arguments: list[str]) -> None:
        # Both packages are imported as moshi_mlx: each side must find its own environment's.
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        self._process = subprocess.Popen(
            [python, str(HERE / script), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def run(self, frames: int) -> list[float]:
        """Times of `frames` frames, ms each."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{frames}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"a worker ended with status {self._process.wait()}")
        return json.loads(line)

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", required=True)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--kind", choices=["dense", "q4"], default="dense")
    parser.add_argument("--text-card", type=int, default=256)
    parser.add_argument("--card", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--frames", type=int, default=25)
    parser.add_argument("--warmup", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    shape = [str(options.width), options.kind, str(options.text_card), str(options.card)]
    ours = Worker(sys.executable, "worker_ours.py", shape)
    peer = Worker(options.peer_python, "worker_peer.py", shape)
    ours.run(options.warmup)
    peer.run(options.warmup)
    rounds = []
    for _ in range(options.rounds):
        rounds.append((statistics.median(ours.run(options.frames)), statistics.median(peer.run(options.frames))))
    ours.close()
    peer.close()
    ratios = sorted(theirs / mine for mine, theirs in rounds)
    result = {
        "shape": f"width {options.width} {options.kind}, vocabularies {options.text_card}/{options.card}",
        "ours_ms": round(statistics.median(mine for mine, _ in rounds), 2),
        "peer_ms": round(statistics.median(theirs for _, theirs in rounds), 2),
        "speed_up": round(statistics.median(ratios), 2),
        "speed_up_range": [round(ratios[0], 2), round(ratios[-1], 2)],
        "rounds": options.rounds,
        "frames": options.frames,
        "mlx": version("mlx"),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "blas": "OpenBLAS" if "openblas" in os.environ.get("LD_PRELOAD", "") else "as shipped",
        "commit": subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=HERE, capture_output=True, text=True
        ).stdout.strip(),
    }
    print(json.dumps(result) if options.json else "\n".join(f"{key}: {value}" for key, value in result.items()))


if __name__ == "__main__":
    main()
