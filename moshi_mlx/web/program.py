"""A server as a program: it listens, says where, and ends with Ctrl-C."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from moshi_mlx import nano
from moshi_mlx.checkpoint import DEFAULT_MODEL
from moshi_mlx.web.access import LOCAL_NAMES, Access
from moshi_mlx.web.server import Server

if TYPE_CHECKING:
    from moshi_mlx.moshi import Moshi
    from moshi_mlx.web.model import Progress


def serve(
    *,
    checkpoint: Mapping[str, Any],
    codec: str = "auto",
    kv_bits: int | None = None,
    host: str = "localhost",
    port: int = 8998,
    max_sessions: int = 1,
    browser: bool = True,
    quiet: bool = False,
) -> None:
    """Serve until Ctrl-C or SIGTERM."""
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING)
    logging.getLogger("moshi_mlx.web").setLevel(logging.WARNING if quiet else logging.INFO)

    def load(progress: Progress) -> Moshi:
        from moshi_mlx.checkpoint import Checkpoint
        from moshi_mlx.moshi import assemble

        progress(None)
        return assemble(Checkpoint.resolve(**checkpoint), codec, kv_bits)

    name = str(checkpoint.get("name", DEFAULT_MODEL))
    known = nano.questions() if name == nano.NAME else {}
    about = {"model": name, "greeting": nano.greeting() if known else "", "questions": list(known)}
    server = Server(load, about, max_sessions, Access([*LOCAL_NAMES, host]))
    asyncio.run(_serve(server, host, port, browser, quiet))


async def _serve(server: Server, host: str, port: int, browser: bool, quiet: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    port = await server.start(host, port)
    print(f"listening on http://{host}:{port}", file=sys.stderr, flush=True)
    ended = asyncio.create_task(server.model.ended())
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait([ended, stopped], return_when=asyncio.FIRST_COMPLETED)
    await server.stop()
    with suppress(asyncio.TimeoutError):
        await asyncio.wait_for(ended, 1.0)
