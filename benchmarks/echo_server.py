"""A server whose model and codec take next to no time: what is left is the server itself.

    python benchmarks/echo_server.py

The language model is the smallest there is, of random weights; the codec reads codes off samples, and samples off
codes. Prints what `moshi-mlx serve` prints: where it listens, and its log. Ends with SIGTERM.
"""

from __future__ import annotations

import asyncio
import signal
import sys

import mlx.core as mx
import numpy as np

from moshi_mlx.checkpoint.random_checkpoint import TINY
from moshi_mlx.codec.base import StreamsApart
from moshi_mlx.models.config import LmConfig
from moshi_mlx.models.lm import Lm
from moshi_mlx.runtime.moshi import Moshi
from moshi_mlx.runtime.wordless import NoWords
from moshi_mlx.web.descriptors import raise_limit
from moshi_mlx.web.log import start_log
from moshi_mlx.web.serving.server import Server

PLACES = 4
SMALLEST = {**TINY, "context": 64, "dim": 32, "num_layers": 1, "depformer_num_layers": 1}


class Numbers:
    """A codec, and its stream, that remembers nothing."""

    name, threaded, codebooks = "numbers", False, 8

    def stream(self) -> Numbers:
        return Numbers()

    def streams(self) -> StreamsApart:
        return StreamsApart(self)

    def encode(self, frame: np.ndarray) -> np.ndarray:
        return (np.abs(frame[:8]) * 1e4).astype(np.int32) % TINY["card"]

    def decode(self, codes: np.ndarray) -> np.ndarray:
        return np.resize(codes / TINY["card"], 1920).astype(np.float32)

    def reset(self) -> None: ...

    reset_encoder = reset_decoder = close = reset


def smallest(progress: object) -> Moshi:
    """Make the model; the same in every process."""
    mx.random.seed(0)
    lm = Lm(LmConfig.from_dict(SMALLEST))
    mx.eval(lm.parameters())
    return Moshi(lm, Numbers(), NoWords())


async def serve() -> None:
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    server = Server(smallest, {"model": "echo", "greeting": "", "questions": []}, PLACES)
    print(f"listening on http://localhost:{await server.start('localhost', 0)}", file=sys.stderr, flush=True)
    ended = asyncio.create_task(server.model.ended())
    waiting = asyncio.create_task(stopped.wait())
    await asyncio.wait([ended, waiting], return_when=asyncio.FIRST_COMPLETED)
    await server.stop()
    await asyncio.to_thread(server.model.join, 1.0)
    if ended.done():
        ended.result()


if __name__ == "__main__":
    start_log(quiet=False)
    raise_limit()
    asyncio.run(serve())
