"""When to let the model forget the older part of a conversation: at a pause, once its window is full."""

from __future__ import annotations

import threading

import numpy as np

from moshi_mlx.frames import FRAME_RATE, is_silent
from moshi_mlx.runtime.session import Reply, Session

KEPT_SECONDS = 20.0  # of the conversation that outlast a refresh, unless told otherwise
PAUSE_FRAMES = 4  # 0.32 s in which nobody speaks


class ContextTrimmer:
    """Watches a conversation and says when its session should be refreshed.

    It is asked with every frame (`due`), and hears every reply as a sink; the two may be on different threads.
    kept: seconds to remember, no more than half the model's window. automatic: also when the window is full, at
    the next pause; else only when somebody asks (`ask`).
    """

    def __init__(self, session: Session, kept: float = KEPT_SECONDS, automatic: bool = False) -> None:
        self._context = session.batch.moshi.lm.config.transformer.context
        self.kept = max(1, min(round(kept * FRAME_RATE), self._context // 2))  # frames
        self._automatic = automatic
        self._asked = threading.Event()
        self._in_window = self._user_silent = self._moshi_silent = 0  # frames
        session.remember(self.kept)

    def warm_up(self, session: Session) -> None:
        """Do once what a refresh does, with a session that is of no use afterwards: a first time takes longer."""
        config = session.batch.moshi.lm.config
        texts, codes = np.zeros(self.kept, np.int32), np.zeros((self.kept, config.codebooks), np.int32)
        session.batch.prefill(session, texts, codes[:, : config.dep_q], codes[:, : config.input_codebooks])

    def due(self, frame: np.ndarray) -> bool:
        """Whether to refresh before this frame of the user, (1920,) float32. Who is told so does it."""
        self._user_silent = self._user_silent + 1 if is_silent(frame) else 0
        pause = min(self._user_silent, self._moshi_silent) >= PAUSE_FRAMES
        full = self._automatic and self._in_window >= self._context
        self._in_window += 1
        if not (self._asked.is_set() or (full and pause)):
            return False
        self._asked.clear()
        self._in_window = min(self._in_window - 1, self.kept) + 1
        return True

    def write(self, reply: Reply) -> None:
        """Hear what Moshi says."""
        silent = not reply.text and (reply.audio is None or is_silent(reply.audio))
        self._moshi_silent = self._moshi_silent + 1 if silent else 0

    def ask(self) -> None:
        """Refresh before the next frame; from any thread."""
        self._asked.set()

    def restart(self) -> None:
        """A new conversation has begun."""
        self._asked.clear()
        self._in_window = self._user_silent = self._moshi_silent = 0
