"""Context trimming: the model forgets the older part of a conversation at a pause, once its window is full."""

from __future__ import annotations

import threading

import numpy as np

from moshi_mlx.frames import FRAME_RATE, is_silent
from moshi_mlx.runtime.reply import Reply
from moshi_mlx.runtime.session import Session

KEPT_SECONDS = 20.0  # of the conversation that are kept, unless told otherwise
PAUSE_FRAMES = 4  # 0.32 s in which nobody speaks


class ContextTrimmer:
    """Says when the context of a session is to be trimmed; the source of its frames then yields TRIM.

    It is asked before every frame (`due`), and gets every reply as a sink; the two may be on different threads.
    kept: seconds to keep, no more than half the model's window. automatic: trim at the first pause after the
    window is full; without it, only when somebody asks (`ask`).
    """

    def __init__(self, session: Session, kept: float = KEPT_SECONDS, automatic: bool = False) -> None:
        self._context = session.batch.moshi.lm.config.transformer.context
        self.kept = max(1, min(round(kept * FRAME_RATE), self._context // 2))  # frames
        self._automatic = automatic
        self._asked = threading.Event()
        self._in_window = self._user_silent = self._moshi_silent = 0  # frames
        session.remember(self.kept)

    def warm_up(self, session: Session) -> None:
        """Trim once, for the first time takes longer. session: another one, which is of no use afterwards."""
        config = session.batch.moshi.lm.config
        tokens = np.zeros((self.kept, 1 + config.n_q), np.int32)
        session.restart(tokens[:, : config.input_codebooks], tokens[:, : 1 + config.dep_q])

    def follow(self, session: Session) -> None:
        """Trim another session of the same model from now on."""
        session.remember(self.kept)
        self.restart()

    def due(self, frame: np.ndarray) -> bool:
        """Return whether to trim before this frame of the user, (1920,) float32; the answer counts as done."""
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
        """Take note of whether Moshi speaks."""
        silent = not reply.text and (reply.audio is None or is_silent(reply.audio))
        self._moshi_silent = self._moshi_silent + 1 if silent else 0

    def ask(self) -> None:
        """Let `due` be true before the next frame; from any thread."""
        self._asked.set()

    def restart(self) -> None:
        """Forget the window's contents: a new conversation begins."""
        self._asked.clear()
        self._in_window = self._user_silent = self._moshi_silent = 0
