"""The other formats that audio is written in, by libsndfile: what a file's suffix names is what it holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import numpy as np

from moshi_mlx.audio.wav import WavEncoder, pcm16
from moshi_mlx.errors import AudioFileError
from moshi_mlx.frames import FRAME_SECONDS, SAMPLE_RATE

_STEADY_LEVEL = 0.5
_BLOCK = SAMPLE_RATE  # samples; libsndfile's Vorbis encoder keeps what it gets at once on its stack


class Format(NamedTuple):
    """A format as libsndfile calls it."""

    container: str
    encoding: str


FORMATS = {
    ".flac": Format("FLAC", "PCM_16"),
    ".mp3": Format("MP3", "MPEG_LAYER_III"),
    ".ogg": Format("OGG", "VORBIS"),
    ".oga": Format("OGG", "VORBIS"),
    ".opus": Format("OGG", "OPUS"),
    ".aiff": Format("AIFF", "PCM_16"),
    ".aif": Format("AIFF", "PCM_16"),
    ".au": Format("AU", "PCM_16"),
    ".caf": Format("CAF", "PCM_16"),
    ".w64": Format("W64", "PCM_16"),
}
STREAMED = ("mp3", "opus", "flac", "wav", "pcm")  # pcm: 16 bits, little endian, no header
_OTHERS = {  # formats of sound and film
    *(".3gp", ".aac", ".ac3", ".amr", ".ape", ".avi", ".m4a", ".m4b", ".mka", ".mkv", ".mov", ".mp4", ".mpg"),
    *(".pcm", ".raw", ".spx", ".weba", ".webm", ".wma", ".wv"),
}


def format_of(path: str | Path) -> Format | None:
    """Return the format that a path's suffix names, None for WAV, which is also what no format's suffix gets.

    Raises AudioFileError for a format that is not written here.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix in _OTHERS:
        wav = path.with_suffix(".wav").name
        raise AudioFileError(
            f"{path} names a format that is not written here (wav, flac, mp3, ogg and opus are): call it {wav} "
            f"and convert it, for example with `ffmpeg -i {wav} {path.name}`"
        )
    wanted = FORMATS.get(suffix)
    if wanted:
        import soundfile

        if wanted.encoding not in soundfile.available_subtypes(wanted.container):
            raise AudioFileError(
                f"libsndfile {soundfile.__libsndfile_version__} cannot write {suffix[1:]}: name a .wav, or "
                "`pip install --upgrade soundfile`"
            )
    return wanted


class SndfileEncoder:
    """Writes 24 kHz audio into an open file that can be rewound, as the audio comes.

    Raises OSError where the system refuses.
    """

    def __init__(self, file: BinaryIO, form: Format, channels: int = 1, steady: bool = False) -> None:
        import soundfile

        self._file: Any = _Guarded(file)
        self._whole_numbers = form.encoding == "PCM_16"
        self._sound = soundfile.SoundFile(
            self._file,
            "w",
            SAMPLE_RATE,
            channels=channels,
            format=form.container,
            subtype=form.encoding,
            # soundfile 0.14 takes the mode only beside a level, of 0 (best) to 1; this is 80 kbit a second.
            compression_level=_STEADY_LEVEL if steady else None,
            bitrate_mode="CONSTANT" if steady else None,
        )
        self._file.check()

    def write(self, pcm: np.ndarray) -> None:
        """Add (samples,) or (samples, channels) float32, 1.0 = full scale; NaN becomes silence."""
        samples = pcm16(pcm) if self._whole_numbers else np.clip(np.nan_to_num(pcm, nan=0.0), -1.0, 1.0)
        for start in range(0, len(samples), _BLOCK):
            self._sound.write(samples[start : start + _BLOCK])
            self._file.check()

    @property
    def handle(self) -> Any:
        """What libsndfile knows it by."""
        return self._sound._file

    def finish(self) -> None:
        """Write what the encoder has held back, and the length."""
        self._sound.close()
        self._file.check()

    def abandon(self) -> None:
        """Write no more."""
        self._file.dead = True
        self._sound.close()


class StreamEncoder:
    """Encodes 24 kHz audio, mono, into bytes as it comes, for whoever cannot rewind.

    What formats write into their beginning at the end, such as lengths, is left out where that is sent by then;
    players read on to the end. kind: one of STREAMED. Raises AudioFileError for another.

    >>> encoder = StreamEncoder("mp3")
    >>> sent = [encoder.write(frame) for frame in frames] + [encoder.finish()]
    """

    def __init__(self, kind: str) -> None:
        if kind not in STREAMED:
            raise AudioFileError(f"audio is not encoded as {kind!r} here; {', '.join(STREAMED)} are possible")
        form = format_of(f"stream.{kind}") if kind not in ("wav", "pcm") else None
        self._file = _Forward()
        self._encoder = (
            # Readers guess how long an MP3 is by its first frame.
            SndfileEncoder(cast(BinaryIO, self._file), form, steady=kind == "mp3")
            if form
            else WavEncoder(cast(BinaryIO, self._file), "a stream")
        )
        if kind == "pcm":
            self._file.take()  # samples alone
        if kind == "opus":
            _send_pages_early(cast(SndfileEncoder, self._encoder))

    def write(self, pcm: np.ndarray) -> bytes:
        """Return what is complete with these samples, (n,) float32; NaN becomes silence."""
        self._encoder.write(pcm)
        return self._file.take()

    def finish(self) -> bytes:
        """Return the rest."""
        if isinstance(self._encoder, SndfileEncoder):
            self._encoder.finish()
        return self._file.take()


def _send_pages_early(encoder: SndfileEncoder) -> None:
    """Let libsndfile write a page of Ogg every frame, not every second."""
    import soundfile

    # SFC_SET_OGG_PAGE_LATENCY_MS of sndfile.h, for which soundfile has no name of its own.
    milliseconds = soundfile._ffi.new("double*", 1000 * FRAME_SECONDS)
    size = soundfile._ffi.sizeof("double")
    soundfile._snd.sf_command(encoder.handle, 0x1302, milliseconds, size)


class _Forward:
    """A file of what was not taken yet; what is written before that is let go."""

    def __init__(self) -> None:
        self._taken, self._position = 0, 0
        self._waiting = bytearray()

    def take(self) -> bytes:
        found = bytes(self._waiting)
        self._taken += len(found)
        self._waiting.clear()
        return found

    def write(self, data: Any) -> int:
        begin = self._position - self._taken
        self._position += len(data)
        kept = bytes(data)[max(0, -begin) :]
        begin = max(0, begin)
        self._waiting[begin : begin + len(kept)] = kept
        return len(data)

    def read(self, size: int = -1) -> bytes:
        return b""

    def seek(self, offset: int, whence: int = 0) -> int:
        end = self._taken + len(self._waiting)
        self._position = offset + (0, self._position, end)[whence]
        return self._position

    def tell(self) -> int:
        return self._position


class _Guarded:
    """A file for libsndfile, whose calls must not raise: what the system refuses is kept for `check`."""

    def __init__(self, file: BinaryIO) -> None:
        self.dead = False
        self._file = file
        self._error: OSError | None = None

    def write(self, data: Any) -> int:
        if not (self._error or self.dead):
            try:
                self._file.write(data)
            except OSError as error:
                self._error = error
        return len(data)

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        try:
            return self._file.seek(offset, whence)
        except OSError as error:  # it writes out first what is buffered
            self._error = self._error or error
            return self._file.tell()

    def tell(self) -> int:
        return self._file.tell()

    def check(self) -> None:
        """Raise the OSError that there was, if any."""
        if self._error:
            raise self._error
