"""A listener for figures and tests: what was said, and when it could be heard."""

import numpy as np

from moshi_mlx.conversation.transcript import Transcript
from moshi_mlx.frames import silence
from moshi_mlx.runtime.reply import Reply

LOUD = 10 ** (-45 / 20)  # RMS of a frame that can be heard


class Heard(Transcript):
    """A sink: the words with their times, and one frame of audio per step, in order of arrival."""

    def __init__(self) -> None:
        super().__init__()
        self.frames: list[np.ndarray] = []

    def write(self, reply: Reply) -> None:
        super().write(reply)
        self.frames.append(silence() if reply.audio is None else reply.audio)

    @property
    def loud(self) -> np.ndarray:
        """Whether each frame can be heard."""
        return np.array([np.sqrt(np.mean(frame**2)) > LOUD for frame in self.frames])

    @property
    def pcm(self) -> np.ndarray:
        return np.concatenate(self.frames)
