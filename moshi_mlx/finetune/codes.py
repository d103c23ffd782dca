"""The codes of recordings, window by window: computed once, then read from a cache.

Every window is encoded from a fresh codec, both voices alike, as Kyutai's trainer does. A cached file is named by
a hash of all that decides what is in it: the sound, the codec, the length of a window.
Source: moshi-finetune, finetune/data/interleaver.py `InterleavedTokenizer`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from moshi_mlx.audio.files import read_audio, read_channels
from moshi_mlx.checkpoint.hub import sha256
from moshi_mlx.codec.base import Codec
from moshi_mlx.errors import ConfigError, DataError, system_errors
from moshi_mlx.finetune.data import Recording
from moshi_mlx.finetune.streams import NO_TOKEN, text_row, window_frames
from moshi_mlx.frames import FRAME_SAMPLES, SAMPLE_RATE
from moshi_mlx.machine import cache_folder
from moshi_mlx.models.conditioner_config import Condition
from moshi_mlx.models.config import LmConfig
from moshi_mlx.weights.atomic import AtomicPath

_VERSION = "1"  # of how codes are made; another one leaves old files alone
LEAST_RATE = 16_000  # Hz; below, half of what Mimi encodes is not there


@dataclass(frozen=True)
class Window:
    """A stretch of a recording, as a model reads it.

    codes: (1 + n_q, T) int16, [text, Moshi, user], -1 for nothing. start: seconds into the recording.
    conditions: conditioner name -> value, for models that take them; the model's best where it has none.
    """

    codes: np.ndarray
    recording: Recording
    start: float
    conditions: Mapping[str, Condition] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.recording.moshi} from {self.start:g} s"


def codes_folder() -> Path:
    """Return where codes are kept; the folder need not exist. `XDG_CACHE_HOME` moves it."""
    return cache_folder() / "codes"


class Encoder:
    """A codec that makes windows of recordings.

    weights: the codec's file, whose hash is part of a cached file's name. seconds: of a window.
    encode: a text to its tokens. advance: told of every frame that was encoded or found.
    tell: gets what a person should know of a recording.
    """

    def __init__(
        self,
        codec: Codec,
        weights: Path,
        config: LmConfig,
        seconds: float,
        encode: Callable[[str], list[int]],
        advance: Callable[[int], None] = lambda frames: None,
        tell: Callable[[str], None] = lambda note: None,
    ) -> None:
        self._codec, self._config, self._seconds = codec, config, seconds
        self._encode, self._advance, self._tell = encode, advance, tell
        self._identity = f"{_VERSION} {sha256(weights)} {codec.name} {codec.codebooks} {seconds!r}"
        self.encoded = 0  # recordings that were not in the cache

    def windows(self, recording: Recording) -> list[Window]:
        """Return all windows of a recording. Raises DataError or AudioFileError if it cannot be used."""
        conditions = recording.conditions()
        try:
            self._config.conditions(conditions)
        except ConfigError as error:
            raise DataError(f"{recording.moshi}: {error}; see text_conditions beside its words") from error
        audio, frames = self._audio(recording)
        words = recording.words()
        recording.check_words(words, sum(frames) * FRAME_SAMPLES / SAMPLE_RATE)
        config, found = self._config, []
        for index, there in enumerate(frames):
            start = index * self._seconds
            ids = config.text_padding_id, config.text_end_padding_id
            text = text_row(words, start, self._seconds, self._encode, there, *ids)
            # The first voice has the codebooks that the model generates, the second those that it hears.
            rows = [text[None], audio[index, 0, : config.dep_q], audio[index, 1, : config.n_q - config.dep_q]]
            found.append(Window(np.concatenate(rows).astype(np.int16), recording, start, conditions))
        return found

    def _audio(self, recording: Recording) -> tuple[np.ndarray, list[int]]:
        """Return the codes of both voices, (windows, 2, K, T), and how many frames each window really has."""
        files = dict.fromkeys([recording.moshi, recording.user])
        identity = " ".join([self._identity, *(sha256(path) for path in files)])
        path = codes_folder() / f"{hashlib.sha256(identity.encode()).hexdigest()}.npz"
        try:
            with np.load(path) as file:
                codes, frames = file["codes"], file["frames"].tolist()
                self._advance(sum(frames))
                return codes, frames
        except (OSError, ValueError, KeyError, EOFError):
            pass  # it is not there, or damaged
        codes, frames = self._encoded(both_voices(recording, self._tell))
        self.encoded += 1
        with system_errors(f"cannot write {path}", DataError):
            path.parent.mkdir(parents=True, exist_ok=True)
        with AtomicPath(path, DataError) as part, part.open("wb") as file:
            np.savez_compressed(file, codes=codes, frames=np.array(frames))
        return codes, frames

    def _encoded(self, voices: np.ndarray) -> tuple[np.ndarray, list[int]]:
        """voices: (2, samples) float32 at 24 kHz."""
        length = window_frames(self._seconds)
        every, frames = [], []
        total = voices.shape[1] / SAMPLE_RATE
        for index in range(math.ceil(total / self._seconds)):
            first, last = (round(self._seconds * SAMPLE_RATE * each) for each in (index, index + 1))
            piece = voices[:, first:last]
            count = min(length, math.ceil(piece.shape[1] / FRAME_SAMPLES))
            if not count:
                continue
            padded = np.zeros((2, count * FRAME_SAMPLES), np.float32)
            padded[:, : piece.shape[1]] = piece[:, : padded.shape[1]]
            codes = np.full((2, self._codec.codebooks, length), NO_TOKEN, np.int16)
            for voice, pcm in enumerate(padded):
                stream = self._codec.stream()
                try:
                    for frame, samples in enumerate(pcm.reshape(count, FRAME_SAMPLES)):
                        codes[voice, :, frame] = stream.encode(samples)
                finally:
                    stream.close()
            self._advance(count)
            every.append(codes)
            frames.append(count)
        return np.stack(every), frames


def both_voices(recording: Recording, tell: Callable[[str], None] = lambda note: None) -> np.ndarray:
    """Read the sound of Moshi and the user, (2, samples) float32 at 24 kHz; what ends early goes on in silence.

    tell: gets what a person should know of it.

    Raises DataError for sound that is not of two people, AudioFileError for what cannot be read.
    """
    if not recording.stereo:
        voices = [read_audio(path).pcm for path in (recording.moshi, recording.user)]
        length = max(map(len, voices))
        return np.stack([np.pad(pcm, (0, length - len(pcm))) for pcm in voices])
    audio, rate = read_channels(recording.moshi)
    if len(audio) != 2:
        channels = "one channel" if len(audio) == 1 else f"{len(audio)} channels"
        raise DataError(
            f"{recording.moshi} has {channels}; stereo expected: left the voice that Moshi learns, right the user"
        )
    if rate < LEAST_RATE:
        tell(f"{recording.moshi} has {rate} samples a second: Moshi learns to sound like a telephone")
    return audio
