"""Scenes played to a server of Kyutai's protocol, at the pace at which people speak.

The answer is put together as Full-Duplex-Bench's own client for Moshi does: the audio in the order in which it
comes, behind one frame of silence, cut to the length of the scene. But where a server falls behind there is
silence, as a listener hears it: joined together, what a slow server says would come too early.
Source: DanielLin94144/Full-Duplex-Bench, v1_v1.5/model_inference/moshi/inference.py.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from yarl import URL

from moshi_mlx.conversation.transcript import Transcript
from moshi_mlx.errors import ClientError, DataError, system_errors
from moshi_mlx.frames import FRAME_SAMPLES, FRAME_SECONDS, SAMPLE_RATE, silence
from moshi_mlx.models.config_reader import read_json
from moshi_mlx.quality.behaviour.answer import ended_by_voice, write_answer
from moshi_mlx.quality.behaviour.playing import seed_of
from moshi_mlx.quality.behaviour.scene import Scene, write_json
from moshi_mlx.tasks.transcribe import Transcriber
from moshi_mlx.wire.client import AudioFrame, Talk, TextPiece, connect

PATIENCE = 2.0  # seconds after a scene, in which the rest of the answer may come
JITTER = 2 * FRAME_SECONDS  # by which audio may be late, and no silence is heard


def server_name(url: str) -> str:
    """Return how a server is called: its address without its query, which may hold a token. Raises ClientError."""
    with suppress(ValueError):
        found = URL(url if "://" in url else f"ws://{url}")
        if found.host:
            return str(found.with_query(None))
    raise ClientError(f"{url[:100]!r} is no address of a server, such as ws://localhost:8998")


LATE = "late.json"
"""Beside an answer: for how many seconds the server was behind."""


def play_over(url: str, scene: Scene, folder: Path, seed: int, transcriber: Transcriber | None = None) -> None:
    """Play a scene, but for its echo, to a server; write the answer into a folder.

    Raises ClientError, ProtocolError, and what `write_answer` raises.
    """
    pcm = scene.pcm()
    heard = asyncio.run(_talk(url, pcm, seed_of(scene, seed)))
    voice, seconds = heard.voice(len(pcm)), len(pcm) / SAMPLE_RATE
    words = (transcriber.transcribe(voice) if transcriber else heard.transcript.words(seconds)).words
    spoken = [word for word in words if word.start < seconds]
    with system_errors(f"cannot make {folder}", DataError):
        folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / LATE, {"seconds": round(heard.silence, 3)})
    write_answer(scene, folder, voice, ended_by_voice(spoken, voice))


def seconds_late(folder: Path) -> float:
    """Return for how many seconds the server of an answer was behind; 0 for answers of others."""
    path = folder / LATE
    late = read_json(path, error=DataError, remedy="remove it").get("seconds") if path.is_file() else 0.0
    return float(late) if isinstance(late, int | float) else 0.0


@dataclass
class Heard:
    """What a server says, as it is heard. Times are seconds of any clock."""

    transcript: Transcript = field(default_factory=Transcript)
    silence: float = 0.0  # seconds of it where the server was late
    _parts: list[np.ndarray] = field(default_factory=lambda: [silence()])
    _begin: float | None = None  # when the first audio came

    @property
    def samples(self) -> int:
        """Return how many there are, with silences."""
        return sum(map(len, self._parts))

    def audio(self, pcm: np.ndarray, now: float) -> None:
        """Add audio that comes at a time, (n,) float32 at 24 kHz."""
        self._begin = now if self._begin is None else self._begin
        late = FRAME_SECONDS + now - self._begin - self.samples / SAMPLE_RATE
        if late > JITTER:
            self.silence += late
            self._parts.append(np.zeros(round(late * SAMPLE_RATE), np.float32))
        self._parts.append(pcm)

    def text(self, piece: str) -> None:
        """Add words. They come before the audio of their step, and are said a frame later."""
        self.transcript.pieces.append((round(self.samples / SAMPLE_RATE + FRAME_SECONDS, 3), piece))

    def voice(self, samples: int) -> np.ndarray:
        """Return the audio, cut or filled up to so many samples."""
        whole = np.concatenate(self._parts)[:samples]
        return np.pad(whole, (0, samples - len(whole)))


async def _talk(url: str, pcm: np.ndarray, seed: int) -> Heard:
    heard = Heard()
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


async def _listen(talk: Talk, heard: Heard) -> None:
    clock = asyncio.get_running_loop().time
    async for message in talk:
        if isinstance(message, AudioFrame):
            heard.audio(message.pcm, clock())
        elif isinstance(message, TextPiece):
            heard.text(message.text)
