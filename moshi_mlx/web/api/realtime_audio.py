"""Audio in the events of realtime sessions: base64 of PCM16 (24 kHz) or of G.711 (8 kHz), to float32 and back."""

from __future__ import annotations

import base64
import binascii
import io
from dataclasses import dataclass

import numpy as np
import soundfile
import soxr

from moshi_mlx.frames import SAMPLE_RATE
from moshi_mlx.web.api.errors import ApiError

MAX_SECONDS = 4.0  # of audio in one event: telephone audio is a sixth of PCM16, and all of it is resampled
_QUALITY = "MQ"  # of resampling; in blocks that hold back 10 to 75 ms at 8 kHz, as those of HQ do
_PCM_SCALE = 32768


@dataclass(frozen=True)
class AudioFormat:
    """A format. name: of its `type`. rate: Hz. width: bytes of a sample. subtype: of soundfile, None for PCM16."""

    name: str
    rate: int
    width: int
    subtype: str | None = None

    def about(self) -> dict[str, object]:
        """The format as sessions name it."""
        return {"type": self.name} if self.subtype else {"type": self.name, "rate": self.rate}


PCM = AudioFormat("audio/pcm", SAMPLE_RATE, 2)
FORMATS = {
    one.name: one
    for one in (PCM, AudioFormat("audio/pcmu", 8_000, 1, "ULAW"), AudioFormat("audio/pcma", 8_000, 1, "ALAW"))
}


class AudioReader:
    """One direction of a stream, from a client: chunks of any size, which may end in the middle of a sample."""

    def __init__(self, format: AudioFormat) -> None:
        self.format = format
        self._part = b""  # of a sample
        self._resample = _resampler(format.rate, SAMPLE_RATE)

    def read(self, text: str, param: str = "audio") -> np.ndarray:
        """Return the audio of an event, (n,) float32 at 24 kHz; n may be 0.

        Raises ApiError for what is no base64, and for more than MAX_SECONDS.
        """
        most = int(MAX_SECONDS * self.format.rate) * self.format.width
        if len(text) > 4 * (most // 3 + 2):
            raise ApiError(400, f"an event may have at most {MAX_SECONDS:g} s of audio", param, "invalid_value")
        try:
            data = self._part + base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError) as error:
            raise ApiError(400, f"{param} is no base64", param, "invalid_value") from error
        whole = len(data) - len(data) % self.format.width
        data, self._part = data[:whole], data[whole:]
        if self.format.subtype is None:
            return np.frombuffer(data, "<i2").astype(np.float32) / _PCM_SCALE
        if not data:
            return np.zeros(0, np.float32)
        pcm, _ = soundfile.read(
            io.BytesIO(data),
            dtype="float32",
            format="RAW",
            subtype=self.format.subtype,
            samplerate=self.format.rate,
            channels=1,
        )
        return self._resample.resample_chunk(pcm)


class AudioWriter:
    """One direction of a stream, to a client. `end` gives what resampling still holds, and begins anew."""

    def __init__(self, format: AudioFormat) -> None:
        self.format = format
        self._resample = _resampler(SAMPLE_RATE, format.rate)

    def write(self, pcm: np.ndarray, last: bool = False) -> str:
        """Return audio, (n,) float32 at 24 kHz, for an event; "" while resampling holds all of it."""
        pcm = np.clip(pcm, -1.0, 1.0).astype(np.float32)
        if self.format.subtype is None:
            data = np.round(np.clip(pcm * _PCM_SCALE, -_PCM_SCALE, _PCM_SCALE - 1)).astype("<i2").tobytes()
            return base64.b64encode(data).decode()
        pcm = self._resample.resample_chunk(pcm, last)
        if not len(pcm):
            return ""
        file = io.BytesIO()
        soundfile.write(file, np.clip(pcm, -1.0, 1.0), self.format.rate, format="RAW", subtype=self.format.subtype)
        return base64.b64encode(file.getvalue()).decode()

    def end(self) -> str:
        """Return the rest."""
        rest = self.write(np.zeros(0, np.float32), last=True)
        self._resample = _resampler(SAMPLE_RATE, self.format.rate)
        return rest


def _resampler(rate: int, to: int) -> soxr.ResampleStream:
    return soxr.ResampleStream(rate, to, 1, dtype="float32", quality=_QUALITY)
