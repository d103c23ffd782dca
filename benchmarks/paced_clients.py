"""Clients that talk with one server at the pace of speech: what share of its frames each gets, how long a tick is.

    scripts/with_blas.sh python -m benchmarks.paced_clients [--clients 16] [--minutes 5] [--model nano]

The server is a process of its own with a place for each. Each client is a connection of this process: it sends a
frame every 80 ms by the clock, from another place of Nano's recorded questions, and counts the frames that come
back. The first two frames of a conversation have no audio and count as nobody's. A tick is one step for everybody:
from its taking to the last reply, by the server's own metrics, of the latest 4096 ticks. Fails if a client gets
less than --share of its frames.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from dataclasses import dataclass, field

import aiohttp
import numpy as np

from benchmarks.quiet import Others
from benchmarks.server import SERVE, Server
from moshi_mlx.audio.files import read_audio
from moshi_mlx.checkpoint.nano import RECORDING
from moshi_mlx.client import AudioFrame, Metadata, Talk, connect
from moshi_mlx.frames import FRAME_SAMPLES, FRAME_SECONDS

WITHOUT_AUDIO = 2  # frames at the beginning of a conversation
MORE = 2.0  # seconds that clients go on, so that what is on its way at the end, and statistics, arrive


@dataclass
class Client:
    """What became of one client's frames. lost: by the server's last statistics."""

    sent: int = 0
    replies: int = 0
    lost: dict[str, int] = field(default_factory=dict)

    @property
    def share(self) -> float:
        """Of its frames that were answered. A reply to silence, which the model heard in place of one, is none."""
        wanted = self.sent - WITHOUT_AUDIO
        return min(wanted, self.replies - self.lost.get("silences", 0)) / max(1, wanted)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--codec", default="mlx")
    parser.add_argument("--share", type=float, default=0.99, help="that every client is to get")
    options = parser.parse_args()
    words = ["--model", options.model, "--codec", options.codec, "--quiet", "--max-sessions", str(options.clients)]
    server = Server([*SERVE, *words])
    others = Others()
    try:
        clients, metrics = asyncio.run(measure(server.port, options.clients, options.minutes * 60))
    finally:
        server.end()
        server.complain()
    report(clients, metrics, others.share())
    worst = min(client.share for client in clients)
    if worst < options.share:
        sys.exit(f"a client got {worst:.2%} of its frames, less than {options.share:.0%}")


async def measure(port: int, count: int, seconds: float) -> tuple[list[Client], dict[str, float]]:
    """Let clients talk for so long; what became of them, and the server's metrics at the end."""
    url = f"http://localhost:{port}"
    pcm = read_audio(RECORDING).pcm
    whole = pcm[: len(pcm) // FRAME_SAMPLES * FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES)
    async with aiohttp.ClientSession(url) as session:
        while (await session.get("/health")).status != 200:
            await asyncio.sleep(0.2)
        starts = [number * len(whole) // count for number in range(count)]
        clients = await asyncio.gather(
            *(converse(url, np.roll(whole, -start, axis=0), seconds, start) for start in starts)
        )
        text = await (await session.get("/metrics")).text()
    lines = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
    return clients, {name: float(value) for name, value in lines}


async def converse(url: str, frames: np.ndarray, seconds: float, seed: int) -> Client:
    """One client: frames (n, 1920) again and again."""
    client = Client()
    async with connect(url, seed=seed) as talk:
        listening = asyncio.create_task(listen(talk, client))
        start = time.perf_counter()
        for index in range(round((seconds + MORE) / FRAME_SECONDS)):
            await asyncio.sleep(max(0.0, start + index * FRAME_SECONDS - time.perf_counter()))
            await talk.send(frames[index % len(frames)])
            client.sent += index * FRAME_SECONDS < seconds
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
    return client


async def listen(talk: Talk, client: Client) -> None:
    """Count what comes back."""
    async for message in talk:
        if isinstance(message, AudioFrame):
            client.replies += 1
        elif isinstance(message, Metadata) and message.fields.get("type") == "stats":
            client.lost = {name: message.fields[name] for name in ("dropped", "silences", "unsent")}


def report(clients: list[Client], metrics: dict[str, float], others: float) -> None:
    """Print what each client got, and the server's times."""
    lost = {
        name: sum(client.lost.get(name, 0) for client in clients) for name in ("dropped", "silences", "unsent")
    }
    shares = sorted(client.share for client in clients)
    print(f"{len(clients)} clients, {clients[0].sent} frames each; others took {others:.0%} of the processors")
    print("share of its frames that each got:", " ".join(f"{share:.2%}" for share in shares))
    print("frames lost, all clients:", ", ".join(f"{count} {name}" for name, count in lost.items()))
    for name in ("encode", "generate", "decode", "tick"):
        times = [
            1000 * metrics[f'moshi_{name}_seconds{{quantile="{quantile}"}}']
            for quantile in ("0.5", "0.95", "0.99")
        ]
        print(f"{name:8} p50 {times[0]:6.1f} ms, p95 {times[1]:6.1f} ms, p99 {times[2]:6.1f} ms")


if __name__ == "__main__":
    main()
