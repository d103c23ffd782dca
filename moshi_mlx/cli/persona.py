"""Who PersonaPlex is to be: the voice and the role of `--voice` and `--persona`, read before the weights are."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import numpy as np

    from moshi_mlx.checkpoint.checkpoint import Checkpoint
    from moshi_mlx.checkpoint.voices import Voice
    from moshi_mlx.tasks.persona import Role


@dataclass(frozen=True)
class PersonaOptions:
    """What comes before the conversation, for models that take a prompt."""

    voice: Annotated[
        str | None,
        typer.Option(
            metavar="VOICE",
            help="Voice of PersonaPlex: a name (moshi-mlx models voices), a .pt file, or a recording of somebody.",
            show_default="none",
        ),
    ] = None
    persona: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="Role of PersonaPlex, such as 'You are a wise teacher.', or @FILE with it.",
            show_default="none",
        ),
    ] = None

    def read(self, found: "Checkpoint", offline: bool, tell: Callable[[str], None] = lambda note: None) -> "Role":
        """Read what was asked for. found: the checkpoint that will play it. tell: what to know of a recording.

        Raises ConfigError for a model that takes none, CheckpointError or AudioFileError for a voice that cannot
        be had, ConfigError for a role that cannot be read.
        """
        from moshi_mlx.errors import ConfigError
        from moshi_mlx.runtime.prompt import NO_PROMPT
        from moshi_mlx.tasks.persona import Role

        if self.voice is None and self.persona is None:
            return Role()
        if not found.lm_config.takes_prompt:
            raise ConfigError(f"{found.name}: {NO_PROMPT}")
        return Role(_text(self.persona or ""), _voice(self.voice, found.name, offline, tell))


NOBODY = PersonaOptions()  # in particular


def _text(persona: str) -> str:
    from moshi_mlx.errors import ConfigError

    if not persona.startswith("@"):
        return persona
    path = Path(persona[1:]).expanduser()
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the role {path}: {getattr(error, 'strerror', None) or error}") from error


def _voice(
    voice: str | None, checkpoint: str, offline: bool, tell: Callable[[str], None]
) -> "Voice | np.ndarray | None":
    """Return a voice that was read, or a recording of one, ready for the codec."""
    from moshi_mlx.audio.files import read_audio
    from moshi_mlx.audio.loudness import at_loudness
    from moshi_mlx.checkpoint.voices import KINDS, Voices, read_voice
    from moshi_mlx.tasks.persona import VOICE_LUFS

    if voice is None:
        return None
    path = Path(voice).expanduser()
    is_path = path.is_file() or "/" in voice or os.sep in voice
    if not is_path and path.suffix in ("", *KINDS):
        return Voices(checkpoint, offline).read(voice)
    if path.suffix in KINDS:
        return read_voice(path)
    audio = read_audio(path)
    for note in audio.notes:
        tell(note)
    return at_loudness(audio.pcm, VOICE_LUFS)
