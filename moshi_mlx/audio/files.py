"""Reading audio files: any format libsndfile knows, any rate, any number of channels, one clear error.

What comes out is what the models want: mono float32 at 24 kHz. Nothing is clipped or normalised on the way in.
"""

import io
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from moshi_mlx.errors import AudioFileError
from moshi_mlx.frames import SAMPLE_RATE

STDIN = "-"
_RATES = (1_000, 768_000)  # Hz; outside, a header is damaged rather than unusual
_BLOCK = 1 << 20  # samples per channel held at once before they are mixed down
_UNKNOWN_SIZE = 0x7FF0_0000  # bytes; programs that write a WAV into a pipe put a size from here up
_OGG_PAGE = 65_307  # bytes of the largest Ogg page


@dataclass(frozen=True)
class Audio:
    """A recording, ready for the model, and what it was before."""

    pcm: np.ndarray  # (samples,) float32, mono, 24 kHz
    name: str  # as a person would say it: "question.wav", "standard input"
    rate: int  # Hz, in the file
    channels: int  # in the file

    @property
    def seconds(self) -> float:
        return len(self.pcm) / SAMPLE_RATE

    def describe(self) -> str:
        """One line for people, which says what was changed on the way in."""
        changes = []
        if self.channels > 1:
            changes.append(f"{self.channels} channels mixed down to mono")
        if self.rate != SAMPLE_RATE:
            changes.append(f"resampled from {self.rate} Hz")
        return f"{self.name}: {self.seconds:.2f} s" + (f" ({', '.join(changes)})" if changes else "")


def read_audio(path: str | Path) -> Audio:
    """Read a whole recording from a file, or from standard input when `path` is "-".

    The result has round(samples * 24000 / rate) samples, aligned with the file's first.
    Raises AudioFileError for what is missing, empty, truncated, not audio, or holds NaN or infinite samples.
    """
    if str(path) == STDIN:
        if sys.stdin.isatty():
            raise AudioFileError("standard input is a terminal: pipe a recording into it, or name a file")
        return _decode(io.BytesIO(sys.stdin.buffer.read()), "standard input")
    path = Path(path)
    if path.suffix.lower() == ".raw":  # libsndfile would ask for a rate and a sample type
        raise AudioFileError(f"{path} is headerless audio: convert it, for example with `sox` or `ffmpeg`, to wav")
    try:
        with path.open("rb") as file:
            return _decode(file, str(path))
    except FileNotFoundError:
        raise AudioFileError(f"{path} does not exist") from None
    except IsADirectoryError:
        raise AudioFileError(f"{path} is a folder, an audio file was expected") from None
    except OSError as error:
        raise AudioFileError(f"cannot read {path}: {error.strerror or error}") from error


def _decode(file: BinaryIO, name: str) -> Audio:
    import soundfile

    size = file.seek(0, io.SEEK_END)
    if size == 0:
        raise AudioFileError(f"{name} is empty (0 bytes)")
    _refuse_truncated(file, size, name)
    _refuse_zero_rate(file, name)
    file.seek(0)
    try:
        with soundfile.SoundFile(file) as sound:
            rate, channels, promised = sound.samplerate, sound.channels, sound.frames
            if not _RATES[0] <= rate <= _RATES[1]:
                raise AudioFileError(f"{name} says it has {rate} samples a second: its header is damaged")
            mono = _mix_down(sound, name)
    except soundfile.SoundFileError as error:
        reason = str(getattr(error, "error_string", error)).removeprefix("Error : ").strip(" .")
        raise AudioFileError(
            f"{name} cannot be read as audio ({reason}); convert it to wav, flac, opus or mp3, or record it again"
        ) from error
    if len(mono) == 0:
        raise AudioFileError(f"{name} holds no samples")
    if len(mono) < promised:
        raise _truncated(name, f"{promised / rate:.2f} s promised, {len(mono) / rate:.2f} s there")
    return Audio(_resample(mono, rate), name, rate, channels)


def _mix_down(sound, name: str) -> np.ndarray:
    """All samples of an open SoundFile as one channel, the mean of its channels: (samples,) float32."""
    parts = [np.empty(0, dtype=np.float32)]
    read = 0
    # Not `sound.blocks()`: where a file ends early, that fills its last block with what lay in memory.
    while len(block := sound.read(_BLOCK, dtype="float32", always_2d=True)):  # (samples, channels)
        bad = ~np.isfinite(block).all(axis=1)
        if bad.any():
            first = int(bad.argmax())
            value = next(v for v in block[first] if not np.isfinite(v))
            raise AudioFileError(
                f"{name} has a sample that is no number: {value} at sample {read + first}"
                f" ({(read + first) / sound.samplerate:.3f} s)"
            )
        parts.append(block.mean(axis=1))
        read += len(block)
    return np.concatenate(parts)


def _resample(mono: np.ndarray, rate: int) -> np.ndarray:
    """To 24 kHz, without delay: sample 0 stays sample 0."""
    if rate == SAMPLE_RATE:
        return mono
    import soxr

    expected = math.floor(len(mono) * SAMPLE_RATE / rate + 0.5)
    pcm = soxr.resample(mono, rate, SAMPLE_RATE, quality="VHQ")[:expected]
    return np.pad(pcm, (0, expected - len(pcm)))


def _truncated(name: str, detail: str) -> AudioFileError:
    return AudioFileError(f"{name} is truncated ({detail}): copy or record it again")


def _refuse_truncated(file: BinaryIO, size: int, name: str) -> None:
    """Find the cut ends that libsndfile reads over in silence: of a WAV, and of an Ogg without its last page."""
    file.seek(0)
    magic = file.read(12)
    if magic[:4] == b"RIFF" and magic[8:] == b"WAVE":
        _refuse_truncated_wav(file, size, name)
    elif magic[:4] == b"OggS":
        file.seek(max(0, size - 2 * _OGG_PAGE))
        tail = file.read()
        page = tail.rfind(b"OggS")
        flags = tail[page + 5] if 0 <= page < len(tail) - 27 else 0
        segments = tail[page + 26] if 0 <= page < len(tail) - 27 else 0
        length = 27 + segments + sum(tail[page + 27 : page + 27 + segments])
        if not flags & 4 or len(tail) - page < length:  # 4: end of stream
            raise _truncated(name, "the last Ogg page is missing")


def _refuse_truncated_wav(file: BinaryIO, size: int, name: str) -> None:
    while len(header := file.read(8)) == 8:
        length = int.from_bytes(header[4:], "little")
        there = size - file.tell()
        if header[:4] == b"data":
            if there < length < _UNKNOWN_SIZE:
                raise _truncated(name, f"{length} bytes of samples promised, {there} there")
            return
        file.seek(length + length % 2, io.SEEK_CUR)


def _refuse_zero_rate(file: BinaryIO, name: str) -> None:
    """Libsndfile calls a WAV of 0 Hz an internal error; people get the reason."""
    file.seek(0)
    header = file.read(64)
    form = header.find(b"fmt ")
    if header[:4] == b"RIFF" and form > 0 and header[form + 12 : form + 16] == b"\0\0\0\0":
        raise AudioFileError(f"{name} says it has 0 samples a second: its header is damaged")
