"""Two of four clients are hostile, in every way of `attacks.py`: what the other two get, against a control.

    python benchmarks/storm.py [--seconds 8] [--only NAME] [--model nano|echo]

Two servers run, of four places each. Two honest clients talk with the first. For the control the hostile two, a
process of their own, go to the second one; then to the first. So the machine carries the same in both. Those who
keep their places as honest clients do have two honest ones in their place as a control. While they are still at
it, the first server is told to end. Fails where the honest clients get less than 97 % of the control's frames, or
the median time between two frames is more than 1.05 times the control's, or the server takes more than 2 s to end.
`--model echo` is the smallest model there is, so that only the server counts, on a busy machine too.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import aiohttp
import numpy as np
from attacks import ATTACKS, BEHAVING
from quiet import Others
from server import SERVE, Server

from moshi_mlx.frames import FRAME_SAMPLES, FRAME_SECONDS, SAMPLE_RATE

FRAMES_BAR, GAP_BAR, END_BAR = 0.97, 1.05, 2.0
QUERY = "audio=pcm&seed=1&text_temperature=0&audio_temperature=0"
HONEST = 2
SEATED = {"stalling in turn"}
ROUNDING = 1e-4  # of full scale
LEAD = 2.0  # seconds of the conversations before their frames are counted: the hostile have to come


class Got(NamedTuple):
    """What the honest clients got."""

    frames: int
    gap: float  # seconds from frame to frame, the median
    same: float  # share of the frames that were those of a client alone, but for rounding


def started(model: str) -> Server:
    """Return a server of four places that is ready."""
    echo = [str(Path(__file__).parent / "echo_server.py")]
    server = Server(echo if model == "echo" else [*SERVE, "--model", model, "--max-sessions", "4"])
    server.wait_until_ready()
    return server


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8.0, help="for which the honest clients are counted")
    parser.add_argument("--only", choices=list(ATTACKS))
    parser.add_argument("--model", default="nano")
    options = parser.parse_args()
    speech = voice(LEAD + options.seconds)
    others, began = Others(), time.monotonic()
    first, second = started(options.model), started(options.model)
    alone = asyncio.run(talk_together(first.port, speech, 1))[0]
    columns = (
        "attack",
        "frames, control",
        "frames",
        "share",
        "gap, control",
        "gap",
        "as alone, control",
        "as alone",
        "end",
    )
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}", flush=True)
    missed = []
    for name in [options.only] if options.only else ATTACKS:
        if name in SEATED:
            control, _ = measure(BEHAVING, first, first, speech, alone)
            first = started(options.model)
        else:
            control, _ = measure(name, first, second, speech, alone)
        got, end = measure(name, first, first, speech, alone)
        print(
            f"| {name} | {control.frames} | {got.frames} | {got.frames / max(1, control.frames):.1%} "
            f"| {1000 * control.gap:.1f} ms | {1000 * got.gap:.1f} ms "
            f"| {control.same:.0%} | {got.same:.0%} | {end:.2f} s |",
            flush=True,
        )
        if got.frames < FRAMES_BAR * control.frames or got.gap > GAP_BAR * control.gap or end > END_BAR:
            missed.append(name)
        first = started(options.model)
    for server in (first, second):
        server.end()
    print(f"\n{time.monotonic() - began:.0f} s; other programs took {others.share():.0%} of the machine")
    if missed:
        sys.exit(f"missed: {', '.join(missed)}")


def measure(name: str, server: Server, attacked: Server, speech: np.ndarray, alone: Talk) -> tuple[Got, float]:
    """What honest clients of a server get while another is attacked, or the same, which is then told to end."""
    hostile: list[subprocess.Popen[bytes]] = []

    def attack() -> None:
        words = [sys.executable, str(Path(__file__).with_name("attacks.py")), name, str(attacked.port)]
        seconds = len(speech) / SAMPLE_RATE + (END_BAR if attacked is server else 0)
        hostile.append(subprocess.Popen([*words, f"{seconds:.1f}"], stderr=subprocess.DEVNULL))

    talks = asyncio.run(talk_together(server.port, speech, HONEST, attack))
    end = server.end() if attacked is server else 0.0
    hostile[0].wait()
    counted = [[at for at in talk.times if at - talk.began >= LEAD] for talk in talks]
    gaps = [later - sooner for times in counted for sooner, later in pairwise(times)]
    same = [equal(mine, its) for talk in talks for mine, its in zip(talk.audio, alone.audio, strict=False)]
    return Got(sum(map(len, counted)), statistics.median(gaps or [9.9]), statistics.mean(same or [0])), end


def equal(mine: bytes, its: bytes) -> bool:
    """Whether two messages hold the same audio. Several rows of a codec round otherwise than one."""
    first, second = (np.frombuffer(message[1:], "<f4") for message in (mine, its))
    return len(first) == len(second) and bool(np.abs(first - second).max(initial=0) < ROUNDING)


async def talk_together(
    port: int, speech: np.ndarray, count: int, begun: Callable[[], None] = lambda: None
) -> list[Talk]:
    """Talk as so many clients that all say this as it is spoken; `begun` is called when they begin."""
    talks = [Talk(port) for _ in range(count)]
    async with AsyncExitStack() as stack:
        for talk in talks:
            await stack.enter_async_context(talk)
        begun()
        await asyncio.gather(*(talk.say(speech) for talk in talks))
    return talks


class Talk:
    """An honest client's conversation: what it got, and when."""

    def __init__(self, port: int) -> None:
        self.times: list[float] = []
        self.audio: list[bytes] = []
        self.began = 0.0
        self._url = f"http://localhost:{port}/api/chat?{QUERY}"

    async def __aenter__(self) -> Talk:
        self._session = aiohttp.ClientSession()
        self._socket = await self._session.ws_connect(self._url)
        while (await self._socket.receive()).data != b"\0":
            pass
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *reason: object) -> None:
        await self._socket.close()
        await self._reading
        await self._session.close()

    async def say(self, speech: np.ndarray) -> None:
        self.began = time.monotonic()
        for index, frame in enumerate(speech.reshape(-1, FRAME_SAMPLES)):
            await asyncio.sleep(max(0.0, self.began + index * FRAME_SECONDS - time.monotonic()))
            if self._socket.closed:
                return
            await self._socket.send_bytes(b"\1" + frame.tobytes())

    async def _read(self) -> None:
        async for message in self._socket:
            if message.data[:1] == b"\1":
                self.times.append(time.monotonic())
                self.audio.append(message.data)


def voice(seconds: float) -> np.ndarray:
    """Something like speech, whole frames of float32."""
    samples = int(seconds / FRAME_SECONDS) * FRAME_SAMPLES
    at = np.arange(samples) / SAMPLE_RATE
    phase = 2 * np.pi * np.cumsum(120 + 40 * np.sin(4.4 * at)) / SAMPLE_RATE
    tone = sum(np.sin(k * phase) / k for k in range(1, 12)) * (0.55 + 0.45 * np.sin(19 * at))
    return (0.3 * tone / np.abs(tone).max()).astype("<f4")


if __name__ == "__main__":
    main()
