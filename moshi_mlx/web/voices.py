"""The voices that requests may name, and no files."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from moshi_mlx.errors import ConfigError, some

if TYPE_CHECKING:
    import numpy as np

    from moshi_mlx.audio.speakers import Speakers

PRESETS = frozenset(
    (
        "alloy",
        "ash",
        "ballad",
        "cedar",
        "coral",
        "echo",
        "fable",
        "marin",
        "nova",
        "onyx",
        "sage",
        "shimmer",
        "verse",
    )
)
"""OpenAI's own voices: programs that know no others get the server's first."""


class UnknownVoice(ConfigError):
    """A voice that is not served."""


class ServedVoices:
    """The voices of one text-to-speech model.

    given: names or files, as `Speakers.read` takes them; a file of vectors is called by its name without the
    ending. The first is the voice of who names none. Beside them stand those that are here of Kyutai's.
    """

    def __init__(self, speakers: Speakers, given: Sequence[str] = ()) -> None:
        self._speakers = speakers
        names = {PurePath(name).stem if name.endswith(".safetensors") else name: name for name in given}
        self._default = given[0] if given else speakers.default
        self._created = int(time.time())
        self._table = {**{name: name for name in speakers.names}, **names}

    @property
    def names(self) -> list[str]:
        """What requests may call them, sorted."""
        return sorted(self._table)

    def read(self, name: str) -> list[np.ndarray]:
        """Return a voice as `tasks.say` takes it, none for a model that speaks without. Raises MoshiError.

        Reads a file, and may have to fetch it.
        """
        if name in self._table:
            return [self._speakers.read(self._table[name])]
        if name and name not in PRESETS:
            known = some(self.names, 10)
            raise UnknownVoice(f"there is no voice {name[:100]!r}: it has {known}")
        return [self._speakers.read(self._default)] if self._default else []

    def about(self, name: str) -> dict[str, Any]:
        """The object of a voice."""
        return {
            "id": name,
            "name": name,
            "object": "audio.voice",
            "type": "audio_sample",
            "created_at": self._created,
        }
