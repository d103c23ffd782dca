"""Our step against the peer's, alternating in one run.

    python benchmarks/step_vs_peer.py [--width 64] [--kind dense|q4] [--rounds 12] [--frames 25]
        [--text-card 256] [--card 128] [--graph cpu|gpu] [--peer-python PYTHON] [--json]

The peer is moshi_mlx 0.3.0, unmodified, in an environment of its own (see peer_environment.py). Both sides have
random weights of the same shape and their own default sampling; each is a process that stays alive.
"""

import argparse
import json
import sys
from typing import Any

from peer_environment import peer_python
from workers import Worker, alternate, speed_up

from moshi_mlx.bench.scene import scene


def step_vs_peer(
    peer: str,
    width: int,
    kind: str,
    rounds: int,
    frames: int,
    text_card: int = 256,
    card: int = 128,
    graph: str = "cpu",
) -> dict[str, Any]:
    """Times of a step and their ratio; the same of its host part, in which Python does not wait for MLX.

    kind: "dense" (float32) or "q4". graph: "gpu" to build what a GPU would run; then only the host's part counts.
    """
    shape = (width, kind, text_card, card, graph)
    workers = {
        "ours": Worker(sys.executable, "worker_ours.py", *shape),
        "peer": Worker(peer, "worker_peer.py", *shape),
    }
    medians = alternate(workers, rounds, frames, warm_up=20)
    return {
        "what": f"step, width {width} {kind}, vocabularies {text_card}/{card}, graph of a {graph.upper()}",
        **speed_up(medians["ours"]["step"], medians["peer"]["step"]),
        "host": speed_up(medians["ours"]["host"], medians["peer"]["host"]),
        "rounds": rounds,
        "frames": frames,
    }


def host_vs_peer(peer: str, rounds: int) -> dict[str, Any]:
    """The host's part of a frame on the graph that a GPU runs, where every norm and attention is one primitive."""
    host = step_vs_peer(peer, 64, "dense", rounds, 25, graph="gpu")["host"]
    return {"what": "host part of a step, graph of a GPU", **host}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", help="built under .bench unless given")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--kind", choices=["dense", "q4"], default="dense")
    parser.add_argument("--text-card", type=int, default=256)
    parser.add_argument("--card", type=int, default=128)
    parser.add_argument("--graph", choices=["cpu", "gpu"], default="cpu")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--frames", type=int, default=25)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    result = step_vs_peer(
        options.peer_python or peer_python(),
        options.width,
        options.kind,
        options.rounds,
        options.frames,
        options.text_card,
        options.card,
        options.graph,
    )
    result |= {"scene": scene()}
    print(json.dumps(result) if options.json else "\n".join(f"{key}: {value}" for key, value in result.items()))


if __name__ == "__main__":
    main()
