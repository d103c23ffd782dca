"""Scenes played to a server of Kyutai's protocol, at the pace at which people speak.

The answer is put together as Full-Duplex-Bench's own client for Moshi does: the audio in the order in which it
comes, behind one frame of silence, cut to the length of the scene.
Source: DanielLin94144/Full-Duplex-Bench, v1_v1.5/model_inference/moshi/inference.py.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from yarl import URL

from moshi_mlx.conversation.transcript import Piece, Transcript
from moshi_mlx.errors import ClientError
from moshi_mlx.frames import FRAME_SAMPLES, SAMPLE_RATE, silence
from moshi_mlx.quality.behaviour.answer import ended_by_voice, write_answer
from moshi_mlx.quality.behaviour.playing import seed_of
from moshi_mlx.quality.behaviour.scene import Scene
from moshi_mlx.tasks.transcribe import Transcriber
from moshi_mlx.wire.client import AudioFrame, Talk, TextPiece, connect

PATIENCE = 2.0  # seconds after a scene, in which the rest of the answer may come


def server_name(url: str) -> str:
    """Return how a server is called: its address without its query, which may hold a token. Raises ClientError."""
    with suppress(ValueError):
        found = URL(url if "://" in url else f"ws://{url}")
        if found.host:
            return str(found.with_query(None))
    raise ClientError(f"{url[:100]!r} is no address of a server, such as ws://localhost:8998")


def play_over(url: str, scene: Scene, folder: Path, seed: int, transcriber: Transcriber | None = None) -> None:
    """Play a scene, but for its echo, to a server; write the answer into a folder.

    Raises ClientError, ProtocolError, and what `write_answer` raises.
    """
    pcm = scene.pcm()
    heard = asyncio.run(_talk(url, pcm, seed_of(scene, seed)))
    voice = heard.voice(len(pcm))
    if transcriber:
        words = list(transcriber.transcribe(voice).words)
    else:
        words = [
            word
            for word in heard.transcript.words(len(pcm) / SAMPLE_RATE).words
            if word.start * SAMPLE_RATE < len(pcm)
        ]
    write_answer(scene, folder, voice, ended_by_voice(words, voice))


@dataclass
class _Heard:
    """What a server says. One frame of silence stands before it, as by the benchmark's client."""

    frames: list[np.ndarray] = field(default_factory=lambda: [silence()])
    transcript: Transcript = field(default_factory=Transcript)

    @property
    def samples(self) -> int:
        return len(self.frames) * FRAME_SAMPLES

    def piece(self, text: str) -> None:
        """Add words; their audio is what comes next."""
        self.transcript.pieces.append(_piece(self.samples / SAMPLE_RATE, text))

    def voice(self, samples: int) -> np.ndarray:
        whole = np.concatenate(self.frames)[:samples]
        return np.pad(whole, (0, samples - len(whole)))


def _piece(time: float, text: str) -> Piece:
    return round(time, 3), text


async def _talk(url: str, pcm: np.ndarray, seed: int) -> _Heard:
    heard = _Heard()
    audio = "pcm" if URL(url if "://" in url else f"ws://{url}").query.get("audio") == "pcm" else "opus"
    async with connect(url, audio=audio, seed=seed) as talk:
        listening = asyncio.create_task(_listen(talk, heard))
        try:
            await talk.say(pcm)
            # Servers answer frame by frame: silence lets the rest of the answer come.
            for _ in range(round(PATIENCE * SAMPLE_RATE / FRAME_SAMPLES)):
                if heard.samples >= len(pcm) or listening.done():
                    break
                await talk.say(silence(2))
        finally:
            await talk.close()
            await listening
    return heard


async def _listen(talk: Talk, heard: _Heard) -> None:
    async for message in talk:
        if isinstance(message, AudioFrame):
            heard.frames.append(message.pcm)
        elif isinstance(message, TextPiece):
            heard.piece(message.text)
