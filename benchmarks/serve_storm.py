"""Connections that come and break off, many a second, against a running server: memory, and who comes after them.

    python benchmarks/serve_storm.py [--seconds 30] [--rate 15] [--model nano]

The server is a process of its own. Each client goes as far as chance wills: it never asks, asks for a page, opens
the web socket, sends noise or speech, and leaves politely or with a reset. A clean client talks all the while.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import socket
import struct
import subprocess
import time

import aiohttp
import numpy as np
from server import SERVE, Server

PARTS = 5  # of the storm, after each of which memory is read
BLOCK = np.zeros(480, "<f4").tobytes()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument(
        "--rate", type=float, default=15.0, help="connections a second; a server takes 20 of one address"
    )
    parser.add_argument("--model", default="nano")
    options = parser.parse_args()
    server = Server([*SERVE, "--model", options.model, "--max-sessions", "2", "--quiet"])
    try:
        asyncio.run(measure(server.process.pid, server.port, options.seconds, options.rate))
    finally:
        seconds = server.end()
        print(f"server ended with {server.process.returncode} in {seconds:.2f} s")
        server.complain()


async def measure(pid: int, port: int, seconds: float, rate: float) -> None:
    async with aiohttp.ClientSession(f"http://localhost:{port}") as session:
        while (await session.get("/health")).status != 200:
            await asyncio.sleep(0.2)
        await storm(port, 2.0, rate)  # what is allocated once is there
        memory = [resident(pid)]
        talk = asyncio.create_task(speak(session, seconds))
        came = refused = 0
        for _ in range(PARTS):
            more = await storm(port, seconds / PARTS, rate)
            came, refused = came + more[0], refused + more[1]
            memory.append(resident(pid))
        heard = await talk
        while (state := await (await session.get("/health")).json())["sessions"] or state["waiting"]:
            await asyncio.sleep(0.1)
        memory.append(resident(pid))
        print(f"{came} connections in {seconds:.0f} s, {refused} refused; places all free")
        print(f"a clean client meanwhile: {heard} frames of {seconds * 12.5:.0f}")
        print(f"a clean client afterwards: {await speak(session, 2.0)} frames of 25")
        print("resident memory, MB:", *(f"{size:.1f}" for size in memory))


async def speak(session: aiohttp.ClientSession, seconds: float) -> int:
    """Frames of audio that a client gets that behaves."""
    heard = 0
    async with session.ws_connect("/api/chat?audio=pcm") as talk:

        async def send() -> None:
            start = time.monotonic()
            for block in range(int(seconds * 50)):
                await talk.send_bytes(b"\1" + BLOCK)
                await asyncio.sleep(max(0.0, start + block / 50 - time.monotonic()))
            await talk.close()

        while (await talk.receive()).data[:1] != b"\0":
            pass
        sending = asyncio.create_task(send())
        async for message in talk:
            heard += message.data[0] == 1
        await sending
    return heard


async def storm(port: int, seconds: float, rate: float) -> tuple[int, int]:
    """Clients one after another; how many came, and how many found no connection."""
    chance = random.Random(1)
    start, tasks, refused = time.monotonic(), [], 0
    while (passed := time.monotonic() - start) < seconds:
        tasks.append(asyncio.create_task(wild(port, chance)))
        await asyncio.sleep(max(0.0, len(tasks) / rate - passed))
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        refused += isinstance(result, OSError)
    return len(tasks), refused


async def wild(port: int, chance: random.Random) -> None:
    """One client that behaves badly."""
    reader, writer = await asyncio.open_connection("localhost", port)
    stage = chance.randrange(5)
    if stage == 1:
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    if stage > 1:
        query = chance.choice([b"", b"?audio=pcm"])
        writer.write(b"GET /api/chat" + query + b" HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n")
        writer.write(b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n")
        writer.write(b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
        await reader.readline()
    if stage == 3:
        writer.write(chance.randbytes(chance.randrange(2000)))
    if stage == 4:
        for _ in range(chance.randrange(20)):
            payload = bytes([chance.choice([1, 1, 1, 3])]) + chance.randbytes(chance.randrange(100))
            writer.write(b"\x82" + bytes([0x80 | len(payload)]) + bytes(4) + payload)
            await asyncio.sleep(0.02)
    if chance.random() < 0.5:  # as a machine that loses its power: a reset, no farewell
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.close()


def resident(pid: int) -> float:
    """Memory of a process, in MB."""
    done = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=True)
    return int(done.stdout) / 1024


if __name__ == "__main__":
    main()
