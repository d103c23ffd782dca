"""A server whose model and codec take next to no time: what is left is the server itself.

    python benchmarks/echo_server.py

The language model is the smallest there is, of random weights; the codec reads codes off samples, and samples off
codes. Prints what `moshi-mlx serve` prints: where it listens, and its log. Ends with SIGTERM and with Ctrl-C.
"""

from __future__ import annotations

import asyncio
import signal
import sys

import mlx.core as mx

from moshi_mlx.checkpoint.random_checkpoint import TINY
from moshi_mlx.models.config import LmConfig
from moshi_mlx.models.lm import Lm
from moshi_mlx.runtime.moshi import Moshi
from moshi_mlx.runtime.wordless import NoWords
from moshi_mlx.web.descriptors import raise_limit
from moshi_mlx.web.log import start_log
from moshi_mlx.web.serving.server import Server
from tests.numbers_codec import Numbers

PLACES = 4
SMALLEST = {**TINY, "context": 64, "dim": 32, "num_layers": 1, "depformer_num_layers": 1}


def smallest(progress: object) -> Moshi:
    """Make the model; the same in every process."""
    mx.random.seed(0)
    lm = Lm(LmConfig.from_dict(SMALLEST))
    mx.eval(lm.parameters())
    return Moshi(lm, Numbers(TINY["card"]), NoWords())


async def serve() -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
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
