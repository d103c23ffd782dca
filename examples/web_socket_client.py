"""Ask a running `moshi-mlx serve` over its web socket: send a recording, print the words, keep the voice.

    moshi-mlx serve --model nano &
    python examples/web_socket_client.py question.wav answer.wav

The first byte of a message is its kind. `audio=pcm` asks for float32 samples in place of Ogg/Opus (docs/serve.md).
"""

import argparse
import asyncio

import aiohttp
import numpy as np

import moshi_mlx

HANDSHAKE, AUDIO, TEXT, ERROR = 0, 1, 2, 5


async def speak(socket: "aiohttp.ClientWebSocketResponse[bool]", pcm: np.ndarray) -> None:
    """Send audio frame by frame, no faster than it is spoken, then hang up."""
    clock = asyncio.get_running_loop()
    begin = clock.time()
    for number, frame in enumerate(moshi_mlx.FileSource(pcm, lead=1, tail=5)):
        await asyncio.sleep(begin + number * 0.08 - clock.time())
        await socket.send_bytes(bytes([AUDIO]) + frame.astype("<f4").tobytes())
    await socket.close()


async def ask(url: str, question: np.ndarray, answer: moshi_mlx.WavSink) -> None:
    """Have one conversation."""
    speaking: asyncio.Task[None] | None = None
    async with aiohttp.ClientSession() as http, http.ws_connect(f"{url}/api/chat?audio=pcm") as socket:
        async for message in socket:
            kind, content = message.data[0], message.data[1:]
            if kind == HANDSHAKE:  # the model is ready
                speaking = asyncio.create_task(speak(socket, question))
            elif kind == AUDIO:
                answer.write(moshi_mlx.Reply(np.frombuffer(content, "<f4"), "", 0.0))
            elif kind == TEXT:
                print(content.decode(), end="", flush=True)
            elif kind == ERROR:
                raise SystemExit(f"the server says: {content.decode()}")
        if speaking:
            await speaking
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description="Ask a server.")
    parser.add_argument("question")
    parser.add_argument("answer", help="a WAV file to make")
    parser.add_argument("--url", default="http://localhost:8998")
    options = parser.parse_args()
    with moshi_mlx.WavSink(options.answer) as answer:
        asyncio.run(ask(options.url, moshi_mlx.read_audio(options.question).pcm, answer))


if __name__ == "__main__":
    main()
