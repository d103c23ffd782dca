"""Writing WAV files that are either whole or not there.

A file is written beside its final name and renamed when it is complete, so that a full disk, a crash or a failed
conversation leaves nothing that looks like an answer.
"""

from __future__ import annotations

import contextlib
import os
import struct
import sys
from pathlib import Path
from typing import BinaryIO

import numpy as np

from moshi_mlx.errors import AudioFileError
from moshi_mlx.frames import SAMPLE_RATE
from moshi_mlx.weights.atomic import AtomicPath

STDOUT = "-"
_BYTES = 2  # 16-bit PCM
_MAX_DATA = 0xFFFF_FFFF - 36  # bytes; a RIFF size is 32 bits
_UNKNOWN = 0xFFFF_FFFF  # the size that players read as "until the end", for streams that cannot be rewound


class WavWriter:
    """A 16-bit mono WAV at 24 kHz, written as the audio comes.

    Opening it proves that the place can be written. `finish` gives the file its name; `discard` leaves nothing.
    A path that is no regular file ("-" for standard output, a pipe, a device) gets the stream directly.
    As a context manager it finishes at the end of the block, and discards if the block raises.
    `clipped` counts the samples outside [-1, 1], which are written as the nearest end.
    Raises AudioFileError where the system refuses.
    """

    def __init__(self, path: str | Path) -> None:
        self.name = "standard output" if str(path) == STDOUT else str(path)
        self.clipped = 0
        self.samples = 0
        self._named: AtomicPath | None = None  # the regular file that is being written
        self._file: BinaryIO | None = None
        with self._refusals():
            self._file = self._open(path)
            self._file.write(header(_UNKNOWN))

    @property
    def seconds(self) -> float:
        """Length of the audio written so far."""
        return self.samples / SAMPLE_RATE

    def write(self, pcm: np.ndarray) -> None:
        """Add audio. pcm: (samples,) float, 1.0 = full scale; NaN becomes silence."""
        if self._file is None:
            raise AudioFileError(f"{self.name} is already closed")
        if (self.samples + len(pcm)) * _BYTES > _MAX_DATA:
            raise AudioFileError(f"{self.name} would grow past 4 GiB, more than a WAV file can hold")
        pcm = np.asarray(pcm, dtype=np.float32)
        self.clipped += int(np.count_nonzero(np.abs(pcm) > 1.0))
        with self._refusals():
            self._file.write(pcm16(pcm).tobytes())
        self.samples += len(pcm)

    def finish(self) -> None:
        """Complete the file and give it its name. Does nothing the second time."""
        if self._file is None:
            return
        with self._refusals():
            if self._named is None:
                self._file.flush()
            else:
                self._file.seek(0)
                self._file.write(header(self.samples * _BYTES))
                self._file.flush()
                os.fsync(self._file.fileno())  # a full disk may show only here
                self._file.close()
                self._named.keep()
            self._release()

    def discard(self) -> None:
        """Leave nothing under the final name, nor beside it. Does nothing after `finish`."""
        with contextlib.suppress(OSError):  # the disk may refuse the last flush; what was written goes anyway
            self._release()
        if self._named is not None:
            self._named.discard()

    def __enter__(self) -> WavWriter:
        return self

    def __exit__(self, kind, error, trace) -> None:
        if error is None:
            self.finish()
        else:
            self.discard()

    def _open(self, path: str | Path) -> BinaryIO:
        if str(path) == STDOUT:
            if sys.stdout.isatty():
                raise AudioFileError(
                    "standard output is a terminal: pipe the audio into a program, or name a file"
                )
            return sys.stdout.buffer
        final = Path(os.path.realpath(path))  # a link keeps pointing at its target
        if final.is_symlink():
            raise AudioFileError(f"cannot write {path}: its links go in circles")
        if final.is_dir():
            raise AudioFileError(f"cannot write {path}: it is a folder")
        if not final.parent.is_dir():
            raise AudioFileError(f"cannot write {path}: the folder {final.parent} does not exist")
        if final.exists() and not final.is_file():
            return final.open("wb", buffering=0)
        if final.exists() and not os.access(final, os.W_OK):
            raise AudioFileError(f"cannot write {path}: it is write-protected")
        named = AtomicPath(final)
        file = named.part.open("wb")  # honours the umask, which a temporary file of `tempfile` would not
        self._named = named
        return file

    def _release(self) -> None:
        file, self._file = self._file, None
        if file is not None and file is not sys.stdout.buffer:
            file.close()

    @contextlib.contextmanager
    def _refusals(self):
        """Turn what the system refuses into our error, leaving nothing behind."""
        try:
            yield
        except BrokenPipeError:
            raise  # whoever read our stream has left: not a failure of ours to explain
        except OSError as error:
            self.discard()
            raise AudioFileError(f"cannot write {self.name}: {error.strerror or error}") from error


def pcm16(pcm: np.ndarray) -> np.ndarray:
    """Convert samples to what a WAV holds, (samples,) int16. pcm: float, 1.0 = full scale; NaN becomes silence."""
    return np.clip(np.round(np.nan_to_num(pcm, nan=0.0) * 32768.0), -32768, 32767).astype("<i2")


def header(data_bytes: int, channels: int = 1) -> bytes:
    """Make the 44 bytes in front of 16-bit samples at 24 kHz."""
    riff = _UNKNOWN if data_bytes == _UNKNOWN else data_bytes + 36
    size = channels * _BYTES
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, channels, SAMPLE_RATE, SAMPLE_RATE * size, size, 8 * _BYTES)
    return struct.pack("<4sI4s", b"RIFF", riff, b"WAVE") + form + struct.pack("<4sI", b"data", data_bytes)
