"""Words for recordings that have none: what a speech-to-text model hears of the voice that Moshi learns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from moshi_mlx.errors import DataError
from moshi_mlx.finetune.codes import both_voices
from moshi_mlx.finetune.data import Recording, read_words, write_words
from moshi_mlx.finetune.streams import Word
from moshi_mlx.frames import SAMPLE_RATE
from moshi_mlx.tasks.transcribe import Transcriber, collected
from moshi_mlx.weights.progress import Progress, progress_bar


class WordWriter:
    """Gives the words of stereo recordings, and writes them beside the sound, where they may be corrected.

    load: loads the speech-to-text model, once it is needed. progress: as in `progress_bar`.
    """

    def __init__(self, load: Callable[[], Transcriber], progress: Progress = None) -> None:
        self._load, self._progress = load, progress
        self._transcriber: Transcriber | None = None
        self.written: list[Path] = []

    def __call__(self, sound: Path) -> tuple[Word, ...]:
        """Return the words of the left voice. Raises DataError or AudioFileError if the sound cannot be used."""
        voice = both_voices(Recording(sound, sound, tuple))[0]
        self._transcriber = self._transcriber or self._load()
        source = self._transcriber.source(voice)
        with progress_bar(f"transcribing {sound.name}", source.frames, self._progress, "frames") as advance:
            events = [*self._transcriber.events(source, advance)]
        path = sound.with_suffix(".json")
        words = collected(events, len(voice) / SAMPLE_RATE).words
        write_words(path, [(word.text, word.start, word.end) for word in words], DataError)
        self.written.append(path)
        return read_words(path, sound)

    def close(self) -> None:
        """Let go of the model's memory."""
        self._transcriber = None
