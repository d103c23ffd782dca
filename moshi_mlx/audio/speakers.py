"""The speakers of a text-to-speech model by name, each as `tasks.say` takes a voice: vectors, or a recording."""

from __future__ import annotations

import os

import numpy as np

from moshi_mlx.audio.files import read_audio
from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.checkpoint.speakers import DEFAULT_VOICE, VOICES, cached_voices, find_voice, read_vectors
from moshi_mlx.errors import ConfigError
from moshi_mlx.tasks.voice import SPEAKERS


class Speakers:
    """The voices that a text-to-speech model can speak with.

    checkpoint: what `load` takes, or its files as they were found. repo: where the hub has them.
    Use voices of people only with their consent.

    >>> voice = Speakers("tts-1.6b").read("expresso/ex03-ex01_happy_001_channel1_334s.wav")
    """

    def __init__(
        self, checkpoint: str | os.PathLike[str] | Checkpoint, offline: bool = False, repo: str = VOICES
    ) -> None:
        self._found = (
            checkpoint if isinstance(checkpoint, Checkpoint) else Checkpoint.find(checkpoint, offline=offline)
        )
        self._offline, self._repo = offline, repo
        self.by_vectors = SPEAKERS in self._found.lm_config.conditioners  # else by recordings

    @property
    def default(self) -> str | None:
        """The voice to take where nobody chooses: Kyutai's example; None for a model that speaks without one."""
        return DEFAULT_VOICE if self.by_vectors else None

    @property
    def names(self) -> list[str]:
        """What is here of the repository, and the default; `read` fetches others by their names."""
        here = cached_voices(self._repo, self._found.settings, self.by_vectors)
        return sorted({*here, *([self.default] if self.default else [])})

    def read(self, name: str | None = None) -> np.ndarray:
        """Return a voice: vectors, (T, width) float32, or a recording, (samples,) float32 at 24 kHz.

        name: one of the repository, "hf://owner/name/file", or a file here; the default unless given.
        Raises ConfigError for a voice of another kind of model, and where there is no default; CheckpointError
        (DownloadError for the hub) or AudioFileError for a file that is not there or no voice.
        """
        name = name or self.default
        if name is None:
            raise ConfigError("this model chooses a voice by itself; name a recording that it is to go on from")
        path = find_voice(name, self._found.settings, self.by_vectors, self._repo, self._offline)
        return read_vectors(path) if self.by_vectors else read_audio(path).pcm

    def is_own(self, name: str) -> bool:
        """Whether a voice is a recording of the user's own, of whoever speaks in it."""
        return not self.by_vectors and os.path.isfile(name)
