"""What one step of a conversation gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from moshi_mlx.errors import MoshiError

K = TypeVar("K")
T = TypeVar("T")


@dataclass(frozen=True)
class Reply:
    """What one step gives back.

    audio: (1920,) float32 at 24 kHz, full scale 1 (peaks may pass it); None while the acoustic delay fills.
    text: the piece of the inner monologue sampled at this step, "" for padding.
    time: seconds from the conversation's first frame to the audio that belongs to `text`; that audio comes with
        the reply one acoustic delay (one frame for Moshi) later.
    vad: (heads, classes) float32, what the model's extra heads say of voice activity, see `Lm.vad`; None for
        models without.
    text_id: the text token sampled at this step.
    """

    audio: np.ndarray | None
    text: str
    time: float
    vad: np.ndarray | None = None
    text_id: int | None = None


@dataclass(frozen=True)
class Generated:
    """What the language model made of one frame: codes (dep_q,) int32, None while delays fill; else as `Reply`."""

    codes: np.ndarray | None
    text: str
    text_id: int
    time: float
    vad: np.ndarray | None = None

    def reply(self, audio: np.ndarray | None) -> Reply:
        """Return it with the audio of its codes."""
        return Reply(audio, self.text, self.time, self.vad, self.text_id)


Finish = Callable[[], "dict[K, T | MoshiError]"]
"""Waits for what is being worked out for several at once. What is one's trouble is its answer."""
