"""Writing audio files that are either whole or not there, in the format that their suffix names.

A file is written beside its final name and renamed when it is complete, so that a full disk, a crash or a failed
conversation leaves nothing that looks like an answer.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import BinaryIO

import numpy as np

from moshi_mlx.audio.encoded import SndfileEncoder, format_of
from moshi_mlx.audio.wav import WavEncoder
from moshi_mlx.errors import AudioFileError
from moshi_mlx.frames import SAMPLE_RATE
from moshi_mlx.weights.atomic import AtomicPath

STDOUT = "-"


class AudioWriter:
    """A file at 24 kHz, mono unless told otherwise, written as the audio comes.

    The suffix names the format (`encoded.FORMATS`); any that names none gets a WAV of 16 bits.
    Opening it proves that the place can be written. `finish` gives the file its name; `discard` leaves nothing.
    A path that is no regular file ("-" for standard output, a pipe, a device) gets the stream directly, as WAV.
    As a context manager it finishes at the end of the block, and discards if the block raises.
    `clipped` counts the samples outside [-1, 1], which are written as the nearest end.
    Raises AudioFileError where the system refuses, and for a format that is not written here.
    """

    def __init__(self, path: str | Path, channels: int = 1) -> None:
        self.name = "standard output" if str(path) == STDOUT else str(path)
        self.clipped = 0
        self.samples = 0
        self._format = format_of(path)
        self._named: AtomicPath | None = None  # the regular file that is being written
        self._file: BinaryIO | None = None
        self._encoder: WavEncoder | SndfileEncoder | None = None
        with self._refusals():
            self._file = self._open(path)
            form = self._format
            self._encoder = (
                SndfileEncoder(self._file, form, channels) if form else WavEncoder(self._file, self.name, channels)
            )
            if self._named is None:
                self._file.flush()  # a stream that takes nothing says so now

    @property
    def seconds(self) -> float:
        """Length of the audio written so far."""
        return self.samples / SAMPLE_RATE

    def write(self, pcm: np.ndarray) -> None:
        """Add audio. pcm: (samples,) or (samples, channels) float, 1.0 = full scale; NaN becomes silence."""
        if self._encoder is None or self._file is None:
            raise AudioFileError(f"{self.name} is already closed")
        pcm = np.asarray(pcm, dtype=np.float32)
        with self._refusals():
            self._encoder.write(pcm)
            if self._named is None:
                self._file.flush()  # whoever reads a stream hears it as it comes
        self.clipped += int(np.count_nonzero(np.abs(pcm) > 1.0))
        self.samples += len(pcm)

    def finish(self) -> None:
        """Complete the file and give it its name. Does nothing the second time."""
        if self._file is None or self._encoder is None:
            return
        with self._refusals():
            if self._named is None:
                self._file.flush()
            else:
                self._encoder.finish()
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

    def __enter__(self) -> AudioWriter:
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
            if self._format:
                raise AudioFileError(f"cannot write {path}: a pipe or device gets WAV only; name it .wav")
            return final.open("wb", buffering=0)
        if final.exists() and not os.access(final, os.W_OK):
            raise AudioFileError(f"cannot write {path}: it is write-protected")
        named = AtomicPath(final)
        file = named.part.open("wb")  # honours the umask, which a temporary file of `tempfile` would not
        self._named = named
        return file

    def _release(self) -> None:
        encoder, self._encoder = self._encoder, None
        file, self._file = self._file, None
        if encoder is not None:
            encoder.abandon()
        if file is not None and not (sys.stdout and file is sys.stdout.buffer):
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
