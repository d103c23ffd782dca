"""A live conversation kept on disk while it lasts: both voices, their mix, the words, what it was made with.

Everything is written out once a second of audio, headers included, so that a folder is readable after any end.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO

import numpy as np

from moshi_mlx.audio.wav import header, pcm16
from moshi_mlx.checkpoint.hub import sha256
from moshi_mlx.conversation.history import ABOUT, TURNS, turn_line, write_texts
from moshi_mlx.conversation.turns import Turn
from moshi_mlx.errors import AudioFileError, system_errors
from moshi_mlx.frames import FRAME_RATE, FRAME_SECONDS, silence
from moshi_mlx.version import __version__
from moshi_mlx.weights.atomic import AtomicPath

if TYPE_CHECKING:
    from moshi_mlx.checkpoint.checkpoint import Checkpoint
    from moshi_mlx.runtime.moshi import Moshi
    from moshi_mlx.runtime.reply import Reply

FLUSH_FRAMES = round(FRAME_RATE)
_MAX_BYTES = 0xFFFF_FFFF - 36  # a RIFF size is 32 bits: 24 hours of mono


class Recorder:
    """user.wav, moshi.wav, mix.wav (left: user, right: Moshi), session.json and the words, in a new folder.

    The n-th frame of each file is the n-th of the conversation: what Moshi says there is played when it has heard
    the user's n-th frame. Words have the time of the files, which goes on where a reset begins the time of replies
    anew: transcript.jsonl has a line for each piece, turns.jsonl one for each turn; in the end transcript.txt and
    .srt are for people.
    about: for session.json; now: called every second for what changes there.
    Raises AudioFileError where the system refuses, also if the folder already holds a conversation.
    """

    def __init__(
        self, folder: str | Path, about: dict[str, Any], now: Callable[[], dict[str, Any]] = dict
    ) -> None:
        self.folder = Path(folder)
        self._about = {"started": datetime.now().astimezone().isoformat(timespec="seconds"), **about}
        self._now = now
        self._frames = 0
        self._closed = False
        self._lock = threading.Lock()  # the folder may be moved from another thread
        self._open = ExitStack()
        with self._refusals():
            check_folder(self.folder)
            self.folder.mkdir(parents=True, exist_ok=True)
            self._voices = [self._wav("user"), self._wav("moshi"), self._wav("mix", channels=2)]
            self._words, self._turns = self._text("transcript.jsonl"), self._text(TURNS)
            self._write_about()

    def add(self, user: np.ndarray, reply: Reply) -> None:
        """Add a frame of the user, (1920,) float32, and the reply to it; after an error nothing is added."""
        if self._closed:
            return
        moshi = silence() if reply.audio is None else reply.audio
        with self._refusals():
            for file, pcm in zip(self._voices, (user, moshi, np.stack([user, moshi], 1).ravel()), strict=True):
                file.write(pcm)
            if reply.text:
                time = round(self._frames * FRAME_SECONDS, 3)
                print(json.dumps({"t": time, "text": reply.text}), file=self._words)
            self._frames += 1
            if self._frames % FLUSH_FRAMES == 0:
                self._flush()

    def turn(self, turn: Turn) -> None:
        """Add a turn that is over, as `add`."""
        if self._closed:
            return
        with self._refusals():
            print(json.dumps(turn_line(turn)), file=self._turns)

    def move(self, folder: Path) -> None:
        """Give the folder another place on the same disk, while the conversation goes on; from any thread.

        Raises AudioFileError where the system refuses; the conversation is then still written where it was.
        """
        with system_errors(f"cannot move {self.folder} to {folder}", AudioFileError), self._lock:
            self.folder.rename(folder)
            self.folder = folder

    def close(self) -> None:
        """Write what is left, but nothing after an error."""
        if self._closed:
            return
        try:
            with self._refusals():
                self._flush()
                write_texts(self.folder)
        finally:
            self._release()

    def _wav(self, name: str, channels: int = 1) -> GrowingWav:
        return self._open.enter_context(closing(GrowingWav(self.folder / f"{name}.wav", channels)))

    def _text(self, name: str) -> TextIO:
        return self._open.enter_context((self.folder / name).open("w", encoding="utf-8"))

    def _flush(self) -> None:
        for file in (*self._voices, self._words, self._turns):
            file.flush()
        self._write_about()

    def _write_about(self) -> None:
        about = {**self._about, **self._now(), "frames": self._frames}
        with self._lock, AtomicPath(self.folder / ABOUT) as part:
            part.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")

    def _release(self) -> None:
        self._closed = True
        with suppress(OSError):  # the disk may refuse what is still buffered
            self._open.close()

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        """Turn what the system refuses into our error, and write nothing more."""
        with system_errors(f"cannot write to {self.folder}", AudioFileError):
            try:
                yield
            except OSError:
                self._release()
                raise


def made_with(checkpoint: Checkpoint, moshi: Moshi, echo: str, hashed: bool = True) -> dict[str, Any]:
    """What session.json says of how a conversation was made. hashed: all weights, too, which takes seconds."""
    weights = {"file": checkpoint.lm_weights.name}
    played = {"conditions": dict(moshi.conditions), "guidance": moshi.guidance} if moshi.conditions else {}
    return {
        "version": __version__,
        "model": checkpoint.name,
        "weights": {**weights, "sha256": sha256(checkpoint.lm_weights)} if hashed else weights,
        "codec": moshi.codec.name,
        "sampling": asdict(moshi.sampling),
        **played,
        "echo": echo,
    }


def check_folder(folder: Path) -> None:
    """Raise AudioFileError if it can be seen that a conversation cannot be kept there. Writes nothing."""
    with system_errors(f"cannot write to {folder}", AudioFileError):
        if (folder / ABOUT).exists():
            raise AudioFileError(f"{folder} already holds a conversation; choose another folder")
        there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not there.is_dir():
        raise AudioFileError(f"cannot write to {folder}: {there} is no folder")
    if not os.access(there, os.W_OK):
        raise AudioFileError(f"cannot write to {folder}: {there} may not be written by you")


class GrowingWav:
    """A 16-bit WAV at 24 kHz whose header is right after every flush. Raises OSError as files do."""

    def __init__(self, path: Path, channels: int) -> None:
        self._file: BinaryIO = path.open("wb")
        self._channels = channels
        self._bytes = 0
        self.flush()

    def write(self, pcm: np.ndarray) -> None:
        """Add (samples,) float32, channels interleaved; past 4 GiB, which WAV cannot say, nothing more is kept."""
        data = pcm16(pcm).tobytes()
        if self._bytes + len(data) <= _MAX_BYTES:
            self._file.write(data)
            self._bytes += len(data)

    def flush(self) -> None:
        """Write the header, and pass everything to the system."""
        self._file.seek(0)
        self._file.write(header(self._bytes, self._channels))
        self._file.seek(0, 2)
        self._file.flush()

    def close(self) -> None:
        """Close the file as it is; flush it first."""
        self._file.close()
