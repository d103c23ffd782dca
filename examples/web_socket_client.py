"""Ask a running `moshi-mlx serve` over its web socket: send a recording, print the words, keep the voice.

moshi-mlx serve --model nano &
python examples/web_socket_client.py question.wav answer.wav
"""

import argparse
import asyncio

import numpy as np

import moshi_mlx
from moshi_mlx.client import AudioFrame, Talk, TextPiece, connect


async def speak(talk: Talk, pcm: np.ndarray) -> None:
    """Say a recording between a second of silence and five to be answered in, then hang up."""
    before, after = (np.zeros(seconds * moshi_mlx.SAMPLE_RATE, np.float32) for seconds in (1, 5))
    await talk.say(np.concatenate([before, pcm, after]))
    await talk.close()


async def ask(url: str, question: np.ndarray, answer: moshi_mlx.WavSink) -> None:
    """Have one conversation."""
    async with connect(url) as talk:  # the model is ready
        speaking = asyncio.create_task(speak(talk, question))
        async for message in talk:
            if isinstance(message, AudioFrame):
                answer.write(moshi_mlx.Reply(message.pcm, "", 0.0))
            elif isinstance(message, TextPiece):
                print(message.text, end="", flush=True)
        await speaking
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description="Ask a server.")
    parser.add_argument("question")
    parser.add_argument("answer", help="a WAV file to make")
    parser.add_argument("--url", default="http://localhost:8998")
    options = parser.parse_args()
    try:
        with moshi_mlx.WavSink(options.answer) as answer:
            asyncio.run(ask(options.url, moshi_mlx.read_audio(options.question).pcm, answer))
    except moshi_mlx.MoshiError as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
