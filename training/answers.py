"""Nano's answers as samples, on the grid of its frames."""

import numpy as np

from moshi_mlx.frames import FRAME_SAMPLES
from training.augment import trimmed
from training.corpus import model_utterance
from training.dialogue import ANSWERS, UNKNOWN_ANSWER

TEXTS = (*dict.fromkeys(ANSWERS.values()), UNKNOWN_ANSWER)
LEAD_FRAMES, TAIL_FRAMES = 6, 8  # silence around an answer, long enough for the codec to forget what was before
FADE = 240  # samples: how fast Nano falls silent when interrupted


def answer_streams() -> dict[str, np.ndarray]:
    """Every answer's text to its samples: silence, speech that starts on a frame, silence, in whole frames."""
    return {text: stream_of(model_utterance(text).pcm) for text in TEXTS}


def stream_of(pcm: np.ndarray) -> np.ndarray:
    """A recording on the grid of frames, between silences."""
    pcm = trimmed(pcm)
    frames = LEAD_FRAMES + -(-len(pcm) // FRAME_SAMPLES) + TAIL_FRAMES
    stream = np.zeros(frames * FRAME_SAMPLES, np.float32)
    stream[LEAD_FRAMES * FRAME_SAMPLES :][: len(pcm)] = pcm
    return stream


def cut(stream: np.ndarray, frame: int) -> np.ndarray:
    """The stream of an answer that falls silent at `frame`."""
    out = stream.copy()
    out[frame * FRAME_SAMPLES :][:FADE] *= np.linspace(1, 0, FADE, dtype=np.float32)
    out[frame * FRAME_SAMPLES + FADE :] = 0
    return out
