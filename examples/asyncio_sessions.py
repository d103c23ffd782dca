"""Hold conversations from asyncio: one thread owns MLX, and the event loop stays free meanwhile.

    python examples/asyncio_sessions.py one.wav two.wav --model moshiko-q4

MLX wants to finish on a thread what was begun there. So an executor with a single thread loads the model and takes
every step; frames and replies are numpy arrays and text, which may go anywhere.
"""

import argparse
import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import mlx.core as mx

import moshi_mlx

MLX = ThreadPoolExecutor(max_workers=1, thread_name_prefix="mlx")


async def on_mlx(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function on the thread that owns MLX."""
    return await asyncio.get_running_loop().run_in_executor(MLX, function, *arguments)


async def answer(moshi: moshi_mlx.Moshi, path: str) -> None:
    """One conversation: a step for every frame, the words printed when they are said."""
    session: moshi_mlx.Session = await on_mlx(moshi.session, 1)  # its seed
    for frame in moshi_mlx.FileSource(moshi_mlx.read_audio(path).pcm, lead=1, tail=5):
        reply: moshi_mlx.Reply = await on_mlx(session.step, frame)
        if reply.text:
            print(f"{path} {reply.time:5.2f} s {reply.text}")
    await on_mlx(session.close)


async def main() -> None:
    parser = argparse.ArgumentParser(description="Print what Moshi says to all recordings at the same time.")
    parser.add_argument("recordings", nargs="+")
    parser.add_argument("--model", default="nano")
    options = parser.parse_args()
    try:
        moshi = await on_mlx(moshi_mlx.load, options.model)
        await asyncio.gather(*(answer(moshi, path) for path in options.recordings))  # frame by frame, in turn
    finally:
        # Since MLX 0.31.2 streams belong to threads, and one that ends with the program and its streams may abort.
        await on_mlx(getattr(mx, "clear_streams", mx.synchronize))


if __name__ == "__main__":
    asyncio.run(main())
