"""A conversation rests when nobody speaks for a while: its model leaves the memory until somebody speaks again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from moshi_mlx.conversation.turns import SHORTEST, SpeechDetector
from moshi_mlx.frames import FRAME_SECONDS

if TYPE_CHECKING:
    import numpy as np

    from moshi_mlx.runtime.session import Session
    from moshi_mlx.tasks.captioner import Captioner


class Reloading(Protocol):
    """What gives the memory of a conversation's models back; on the thread that owns MLX."""

    def unload(self) -> None:
        """Forget the models, with the session and the captions that `load` gave."""
        ...

    def load(self) -> tuple[Session, Captioner | None]:
        """Load them again; return a new session, and what writes captions, if anything does."""
        ...


class Idleness:
    """Counts for how long the user has been silent. after: seconds of silence that are enough to rest."""

    def __init__(self, after: float) -> None:
        self._after = after
        self._detector = SpeechDetector()
        self._silent = self._loud = 0  # frames in a row

    def hear(self, frame: np.ndarray) -> None:
        """Take the user's next frame, (1920,) float32."""
        loud = self._detector.hears(frame)
        self._loud = self._loud + 1 if loud else 0
        self._silent = 0 if self.speaks else self._silent + 1

    @property
    def speaks(self) -> bool:
        """Whether the user speaks now; a single loud frame is a click."""
        return self._loud >= SHORTEST

    @property
    def enough(self) -> bool:
        """Whether the user has been silent for long enough."""
        return self._silent * FRAME_SECONDS >= self._after

    def restart(self) -> None:
        """Count anew."""
        self._silent = self._loud = 0
