"""Reading audio files: any format libsndfile knows, any rate, any number of channels, one clear error.

What comes out is what the models want: mono float32 at 24 kHz. Nothing is clipped or normalised on the way in.
"""

import io
import math
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from moshi_mlx.audio.containers import Recording, foreign, recordings, truncated
from moshi_mlx.audio.long import LongRecording
from moshi_mlx.audio.mixdown import MixDown
from moshi_mlx.audio.resampling import resample, resampled, resampled_length
from moshi_mlx.errors import AudioFileError, system_errors
from moshi_mlx.frames import SAMPLE_RATE

STDIN = "-"
_RATES = (1_000, 768_000)  # Hz; outside, a header is damaged rather than unusual
LONG = 600.0  # seconds, above which a recording that is only played through is read piece by piece
_BLOCK = 1 << 18  # samples per channel held at once before they are mixed down


@dataclass(frozen=True)
class Audio:
    """A recording, ready for the model, and what it was before."""

    pcm: np.ndarray  # (samples,) float32, mono, 24 kHz; of `open_audio` perhaps what stands for one, see there
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
    return _read(path, math.inf)


def open_audio(path: str | Path) -> Audio:
    """Read a recording as `read_audio`, but a long one piece by piece: its `pcm` is a `LongRecording` then.

    All of it is looked at first, so that what is wrong with it is said before a model is loaded.
    """
    return _read(path, LONG)


def read_upload(path: str | Path, name: str, longest: float) -> Audio:
    """Read a recording that somebody else has sent, as `read_audio`; no more than `longest` seconds of it.

    path: where it lies, which nobody is told. name: what messages call it. Raises AudioFileError, for longer
    ones, too.
    """
    path = Path(path)
    with system_errors(f"cannot read {name}", AudioFileError):
        with path.open("rb") as whole:
            if foreign(whole.read(16)) and (afconvert := shutil.which("afconvert")):
                return _converted(afconvert, whole, name, longest)
        return _decode(partial(path.open, "rb"), name, math.inf, longest)


def _read(path: str | Path, most: float) -> Audio:
    """most: seconds, above which nothing is kept in memory."""
    if str(path) == STDIN:
        if sys.stdin.isatty():
            raise AudioFileError("standard input is a terminal: pipe a recording into it, or name a file")
        with system_errors("cannot read standard input", AudioFileError):
            given = sys.stdin.buffer.read()
        return _decode(partial(io.BytesIO, given), "standard input", most)
    path = Path(path)
    if path.suffix.lower() == ".raw":  # libsndfile would ask for a rate and a sample type
        raise AudioFileError(f"{path} is headerless audio: convert it, for example with `sox` or `ffmpeg`, to wav")
    try:
        with path.open("rb") as file:
            begin = partial(path.open, "rb") if file.seekable() else partial(io.BytesIO, file.read())  # a pipe
        with begin() as whole:
            if foreign(whole.read(16)) and (afconvert := shutil.which("afconvert")):
                return _converted(afconvert, whole, str(path))
        return _decode(begin, str(path), most)
    except FileNotFoundError:
        raise AudioFileError(f"{path} does not exist") from None
    except IsADirectoryError:
        raise AudioFileError(f"{path} is a folder, an audio file was expected") from None
    except OSError as error:
        raise AudioFileError(f"cannot read {path}: {error.strerror or error}") from error


def read_channels(path: str | Path) -> tuple[np.ndarray, int]:
    """Read a whole recording with its channels apart: (channels, samples) float32 at 24 kHz, and the file's rate.

    Raises AudioFileError as `read_audio`.
    """
    path = Path(path)
    audio = read_audio(path)  # which says what is wrong with it
    with system_errors(f"cannot read {path}", AudioFileError), path.open("rb") as file:
        parts = []
        for recording in recordings(file, str(path)):
            with _opened(recording, str(path)) as sound:
                channels = np.concatenate(list(_blocks(sound))).T
                parts.append(np.stack([resample(channel, sound.samplerate) for channel in channels]))
    return np.concatenate(parts, axis=1), audio.rate


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


def _converted(afconvert: str, file: BinaryIO, name: str, longest: float = math.inf) -> Audio:
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
        return _decode(partial(wav.open, "rb"), name, math.inf, longest)  # whose file goes with the folder


def _decode(begin: Callable[[], BinaryIO], name: str, most: float, longest: float = math.inf) -> Audio:
    """begin: opens the file anew. longest: seconds, above which it is refused."""
    with begin() as file:
        if file.seek(0, io.SEEK_END) == 0:
            raise AudioFileError(f"{name} is empty (0 bytes)")
        parts: list[_Part] = []
        for recording in recordings(file, name):
            before = sum(part.samples for part in parts) / SAMPLE_RATE
            parts.append(_Part(recording, name, most - before, longest - before))
        notes = [note for part in parts for note in part.mix.notes()]
        if len(parts) > 1:
            notes = [f"{name} holds {len(parts)} recordings one after the other; all are heard", *notes]
        samples = [part.samples for part in parts]
        if sum(samples) > most * SAMPLE_RATE:
            mixes = [part.mix for part in parts]
            # It is an array to all who only ask for its length and for slices, and they are told so.
            pcm = cast(Any, LongRecording(partial(_again, begin, name, mixes), sum(samples), name))
        else:
            wholes = [resample(part.mix.mono(), part.rate) for part in parts]
            pcm = wholes[0] if len(wholes) == 1 else np.concatenate(wholes)
    return Audio(pcm, name, parts[0].rate, parts[0].channels, tuple(dict.fromkeys(notes)))


class _Part:
    """One of the recordings of a file, decoded from its beginning to its end.

    samples: at 24 kHz. most: seconds of sound above which `mix` forgets what was decoded. longest: seconds above
    which no more is decoded, but AudioFileError raised.
    """

    def __init__(self, recording: Recording, name: str, most: float, longest: float) -> None:
        with _opened(recording, name) as sound:
            self.rate, self.channels, promised = sound.samplerate, sound.channels, sound.frames
            if not _RATES[0] <= self.rate <= _RATES[1]:
                raise AudioFileError(f"{name} says it has {self.rate} samples a second: its header is damaged")
            self.mix = mix = MixDown(self.channels, name)
            for block in _blocks(sound):
                mix.add(block, self.rate)
                if mix.samples > longest * self.rate:
                    raise AudioFileError(f"{name} is longer than it may be here; send it in parts")
                if mix.samples > most * self.rate:
                    mix.forget()
        if mix.samples == 0:
            raise AudioFileError(f"{name} holds no samples")
        if recording.promises and mix.samples < promised:
            raise truncated(name, f"{promised / self.rate:.2f} s promised, {mix.samples / self.rate:.2f} s there")
        mix.decide()
        self.samples = resampled_length(mix.samples, self.rate)


def _again(begin: Callable[[], BinaryIO], name: str, mixes: Sequence[MixDown]) -> Iterator[np.ndarray]:
    """Decode all recordings of a file once more: pieces of (samples,) float32 at 24 kHz, one after the other."""
    with system_errors(f"cannot read {name}", AudioFileError), begin() as file:
        for recording, mix in zip(recordings(file, name), mixes, strict=True):
            with _opened(recording, name) as sound:
                yield from resampled(mix.mixed(_blocks(sound)), sound.samplerate)


@contextmanager
def _opened(recording: Recording, name: str) -> Iterator[Any]:
    """Give a recording as soundfile's object. Raises AudioFileError for what libsndfile cannot read."""
    import soundfile

    class Stream(soundfile.SoundFile):
        """One that is read to its end, whatever it says of its length."""

        def seekable(self) -> bool:
            return False

    recording.file.seek(0)
    try:
        with Stream(recording.file) as sound:
            yield sound
    except soundfile.SoundFileError as error:
        reason = str(getattr(error, "error_string", error)).removeprefix("Error : ").strip(" .")
        raise AudioFileError(
            f"{name} cannot be read as audio ({reason}); convert it to wav, flac, opus or mp3, or record it again"
        ) from error


def _blocks(sound: Any) -> Iterator[np.ndarray]:
    """Yield (samples, channels) float32 to the end."""
    while len(block := sound.read(_BLOCK, dtype="float32", always_2d=True)):
        yield block
