"""A server whose model says what it hears and takes no time: what is left is the server itself.

    python benchmarks/echo_server.py

Prints what `moshi-mlx serve` prints: where it listens, and its log. Ends with SIGTERM.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np

from moshi_mlx.runtime.session import Reply
from moshi_mlx.sampling_config import SamplingConfig
from moshi_mlx.web.descriptors import raise_limit
from moshi_mlx.web.log import start_log
from moshi_mlx.web.server import Server

PLACES = 4


class EchoModel:
    """As much of a `Moshi` as a server asks for, and its batch."""

    codec = SimpleNamespace(threaded=False)
    sampling = SamplingConfig()
    held_bytes = 0

    @property
    def moshi(self) -> EchoModel:
        return self

    def warm_up(self, *arguments: object) -> None: ...

    def batch(self, size: int) -> EchoModel:
        return self

    def admit(self, seed: int | None, *more: object) -> EchoSession:
        return EchoSession(self, seed or 1)

    def generate(self, codes: Mapping[EchoSession, np.ndarray]) -> dict[EchoSession, np.ndarray]:
        return dict(codes)

    def leave(self, session: EchoSession) -> None: ...


class EchoSession:
    """A conversation with oneself."""

    def __init__(self, batch: EchoModel, seed: int) -> None:
        self.batch, self.seed = batch, seed

    def encode(self, frame: np.ndarray) -> np.ndarray:
        return frame

    def resetting(self, positions: int) -> Iterator[None]:
        return iter(())

    def decode(self, frame: np.ndarray) -> Reply:
        return Reply(frame, "", 0.0)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *arguments: None  # to be reset, to be closed: nothing is kept


async def serve() -> None:
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    model: Any = EchoModel()
    server = Server(lambda progress: model, {"model": "echo", "greeting": "", "questions": []}, PLACES)
    print(f"listening on http://localhost:{await server.start('localhost', 0)}", file=sys.stderr, flush=True)
    await stopped.wait()
    await server.stop()
    await asyncio.to_thread(server.model.join, 1.0)


if __name__ == "__main__":
    start_log(quiet=False)
    raise_limit()
    asyncio.run(serve())
