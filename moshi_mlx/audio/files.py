"""Reading audio files: any format libsndfile knows, any rate, any number of channels, one clear error.

What comes out is what the models want: mono float32 at 24 kHz. Nothing is clipped or normalised on the way in.
"""

import io
import math
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from moshi_mlx.audio.containers import Recording, foreign, recordings, truncated
from moshi_mlx.errors import AudioFileError
from moshi_mlx.frames import SAMPLE_RATE

STDIN = "-"
_RATES = (1_000, 768_000)  # Hz; outside, a header is damaged rather than unusual
_BLOCK = 1 << 20  # samples per channel held at once before they are mixed down
_SILENT = 1e-6  # of the loudest channel's energy: 60 dB below it
_CANCELLED = (
    0.05  # of the loudest channel's energy left in the mean; two alike leave all, two unlike a half or more
)
_FEW = 4  # channels; with more, the layout may be a room's, and the mean stays what it is
_LOUD = 4.0  # times full scale: beyond any recording that is only hot


@dataclass(frozen=True)
class Audio:
    """A recording, ready for the model, and what it was before."""

    pcm: np.ndarray  # (samples,) float32, mono, 24 kHz
    name: str  # as a person would say it: "question.wav", "standard input"
    rate: int  # Hz, in the file
    channels: int  # in the file
    notes: tuple[str, ...] = ()  # what a person should know about how it is heard

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
            whole = file if file.seekable() else io.BytesIO(file.read())  # a pipe
            if foreign(whole.read(16)) and (afconvert := shutil.which("afconvert")):
                return _converted(afconvert, whole, str(path))
            return _decode(whole, str(path))
    except FileNotFoundError:
        raise AudioFileError(f"{path} does not exist") from None
    except IsADirectoryError:
        raise AudioFileError(f"{path} is a folder, an audio file was expected") from None
    except OSError as error:
        raise AudioFileError(f"cannot read {path}: {error.strerror or error}") from error


SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".m4a", ".mp4", ".aiff", ".aif", ".webm", ".aac", ".w64")


def recordings_in(folder: str | Path) -> list[str]:
    """Name the recordings of a folder, in order. Raises AudioFileError if it holds none."""
    inside = sorted(str(path) for path in Path(folder).iterdir() if path.suffix.lower() in SUFFIXES)
    if not inside:
        raise AudioFileError(f"the folder {folder} holds no recordings ({', '.join(SUFFIXES)})")
    return inside


def read_recordings(paths: Iterable[str | Path]) -> list[np.ndarray]:
    """Read several recordings, (samples,) float32 each; what a person should know of them goes to stderr."""
    recordings = [read_audio(path) for path in paths]
    for note in (note for audio in recordings for note in audio.notes):
        print(f"note: {note}", file=sys.stderr)
    return [audio.pcm for audio in recordings]


def _converted(afconvert: str, file: BinaryIO, name: str) -> Audio:
    """What macOS makes of a file that libsndfile does not read."""
    file.seek(0)
    with tempfile.TemporaryDirectory() as folder:
        source, wav = Path(folder) / f"in{Path(name).suffix}", Path(folder) / "out.wav"
        source.write_bytes(file.read())
        done = subprocess.run(
            [afconvert, "-f", "WAVE", "-d", "LEI16", source, wav], capture_output=True, text=True
        )
        if done.returncode or not wav.is_file():
            raise AudioFileError(f"afconvert cannot convert {name}: {done.stderr.strip()[-200:]}")
        with wav.open("rb") as converted:
            return _decode(converted, name)


def _decode(file: BinaryIO, name: str) -> Audio:
    if file.seek(0, io.SEEK_END) == 0:
        raise AudioFileError(f"{name} is empty (0 bytes)")
    parts = [_decode_one(recording, name) for recording in recordings(file, name)]
    if len(parts) == 1:
        return parts[0]
    notes = [f"{name} holds {len(parts)} recordings one after the other; all are heard"]
    notes += [note for part in parts for note in part.notes]
    pcm = np.concatenate([part.pcm for part in parts])
    return Audio(pcm, name, parts[0].rate, parts[0].channels, tuple(dict.fromkeys(notes)))


def _decode_one(recording: Recording, name: str) -> Audio:
    import soundfile

    class Stream(soundfile.SoundFile):
        """One that is read to its end, whatever it says of its length."""

        def seekable(self) -> bool:
            return False

    recording.file.seek(0)
    try:
        with Stream(recording.file) as sound:
            rate, channels, promised = sound.samplerate, sound.channels, sound.frames
            if not _RATES[0] <= rate <= _RATES[1]:
                raise AudioFileError(f"{name} says it has {rate} samples a second: its header is damaged")
            mix = _MixDown(channels, name)
            while len(block := sound.read(_BLOCK, dtype="float32", always_2d=True)):  # (samples, channels)
                mix.add(block, rate)
    except soundfile.SoundFileError as error:
        reason = str(getattr(error, "error_string", error)).removeprefix("Error : ").strip(" .")
        raise AudioFileError(
            f"{name} cannot be read as audio ({reason}); convert it to wav, flac, opus or mp3, or record it again"
        ) from error
    if mix.samples == 0:
        raise AudioFileError(f"{name} holds no samples")
    if recording.promises and mix.samples < promised:
        raise truncated(name, f"{promised / rate:.2f} s promised, {mix.samples / rate:.2f} s there")
    return Audio(_resample(mix.mono(), rate), name, rate, channels, tuple(mix.notes()))


class _MixDown:
    """Makes one channel of many: the mean, without the silent ones among up to four."""

    def __init__(self, channels: int, name: str) -> None:
        self.samples = 0
        self._name = name
        self._sums: list[np.ndarray] = []  # of all channels, (samples,) float32
        self._loudest: list[np.ndarray] = []  # the loudest channel so far; none of a single one
        self._energy = np.zeros(channels)
        self._peak = 0.0
        self._silent = 0
        self._cancels = False

    def add(self, block: np.ndarray, rate: int) -> None:
        """Take (samples, channels) float32. Raises AudioFileError for NaN and infinite samples."""
        bad = ~np.isfinite(block).all(axis=1)
        if bad.any():
            first = int(bad.argmax())
            value = next(v for v in block[first] if not np.isfinite(v))
            at = self.samples + first
            raise AudioFileError(
                f"{self._name} has a sample that is no number: {value} at sample {at} ({at / rate:.3f} s)"
            )
        self.samples += len(block)
        self._energy += np.square(block, dtype=np.float64).sum(axis=0)
        self._peak = max(self._peak, float(np.abs(block).max(initial=0.0)))
        self._sums.append(block.mean(axis=1))
        if block.shape[1] > 1:
            self._loudest.append(block[:, int(self._energy.argmax())].copy())  # a view would keep all channels

    def mono(self) -> np.ndarray:
        """The mix, (samples,) float32."""
        channels = len(self._energy)
        mean = np.concatenate(self._sums)
        loudest = self._energy.max()
        if channels == 1 or not loudest:
            return mean
        self._silent = int((self._energy < loudest * _SILENT).sum())
        self._cancels = float(np.square(mean, dtype=np.float64).sum()) < loudest * _CANCELLED and not self._silent
        if self._cancels:
            return np.concatenate(self._loudest)
        heard = channels - self._silent
        return mean * np.float32(channels / heard) if self._silent and channels <= _FEW else mean

    def notes(self) -> Iterator[str]:
        """What a person should know of the recording; after `mono`."""
        channels = len(self._energy)
        if self._cancels:
            yield f"the channels of {self._name} cancel each other: only the loudest is heard"
        elif self._silent and channels > _FEW:
            yield (
                f"{self._silent} of {channels} channels of {self._name} are silent, so their mean is "
                f"{20 * math.log10(channels / (channels - self._silent)):.0f} dB quieter than the others"
            )
        if self._peak > _LOUD:
            yield (
                f"{self._name} peaks at {self._peak:,.0f} times full scale: float samples are expected "
                "between -1 and 1; divide them, for example by 32768"
            )


def _resample(mono: np.ndarray, rate: int) -> np.ndarray:
    """To 24 kHz, without delay: sample 0 stays sample 0."""
    if rate == SAMPLE_RATE:
        return mono
    import soxr

    expected = math.floor(len(mono) * SAMPLE_RATE / rate + 0.5)
    pcm = soxr.resample(mono, rate, SAMPLE_RATE, quality="VHQ")[:expected]
    return np.pad(pcm, (0, expected - len(pcm)))
