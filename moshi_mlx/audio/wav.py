"""WAV: 16-bit samples at 24 kHz behind a header."""

from __future__ import annotations

import struct
from typing import BinaryIO

import numpy as np

from moshi_mlx.errors import AudioFileError
from moshi_mlx.frames import SAMPLE_RATE

_BYTES = 2  # 16-bit PCM
_MAX_DATA = 0xFFFF_FFFF - 36  # bytes; a RIFF size is 32 bits
_UNKNOWN = 0xFFFF_FFFF  # the size that players read as "until the end", for streams that cannot be rewound


class WavEncoder:
    """Writes a WAV into an open file, readable from its first samples on.

    name: of the file, for people. `write` raises AudioFileError for more than the format can hold.
    """

    def __init__(self, file: BinaryIO, name: str, channels: int = 1) -> None:
        self._file, self._name, self._channels = file, name, channels
        self._bytes = 0
        file.write(header(_UNKNOWN, channels))

    def write(self, pcm: np.ndarray) -> None:
        """Add (samples,) or (samples, channels) float32, 1.0 = full scale; NaN becomes silence."""
        if self._bytes + pcm.size * _BYTES > _MAX_DATA:
            raise AudioFileError(f"{self._name} would grow past 4 GiB, more than a WAV file can hold")
        self._file.write(pcm16(pcm).tobytes())
        self._bytes += pcm.size * _BYTES

    def finish(self) -> None:
        """Put the length into the header; for a file that can be rewound."""
        self._file.seek(0)
        self._file.write(header(self._bytes, self._channels))

    def abandon(self) -> None:
        """Write no more."""


def pcm16(pcm: np.ndarray) -> np.ndarray:
    """Convert samples to what a WAV holds, int16 of the same shape. pcm: float, 1.0 = full scale; NaN: silence."""
    return np.clip(np.round(np.nan_to_num(pcm, nan=0.0) * 32768.0), -32768, 32767).astype("<i2")


def header(data_bytes: int, channels: int = 1) -> bytes:
    """Make the 44 bytes in front of 16-bit samples at 24 kHz."""
    riff = _UNKNOWN if data_bytes == _UNKNOWN else data_bytes + 36
    size = channels * _BYTES
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, channels, SAMPLE_RATE, SAMPLE_RATE * size, size, 8 * _BYTES)
    return struct.pack("<4sI4s", b"RIFF", riff, b"WAVE") + form + struct.pack("<4sI", b"data", data_bytes)
