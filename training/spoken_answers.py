"""How well Nano's spoken answers are understood, beside the recordings that it learnt from."""

from pathlib import Path
from typing import Any

import numpy as np

from moshi_mlx.frames import FRAME_SAMPLES
from moshi_mlx.runtime.moshi import Moshi
from training.answers import LEAD_FRAMES, answer_streams
from training.dialogue import ANSWERS
from training.heard import listen
from training.intelligibility import measure
from training.questions import LEAD, TAIL
from training.spectrograms import spectrograms
from training.voices import Voice, speak

ASKING = Voice("espeak", "en-us")


def spoken_answers(moshi: Moshi, pictures: Path) -> dict[str, Any]:
    """What a recogniser understands of every answer as it is spoken and in the original; draws voice.png."""
    original, spoken = {}, {}
    streams = answer_streams()
    wrong = []
    recordings = [speak(ASKING, question).pcm for question in ANSWERS]
    for (question, text), heard in zip(ANSWERS.items(), listen(moshi, recordings, LEAD, TAIL), strict=True):
        if heard.text != text:
            wrong.append([question, heard.text])
        original[text] = stream = streams[text]
        begin = next((at for at, loud in enumerate(heard.loud) if loud), None)
        spoken[text] = np.zeros(len(stream), np.float32) if begin is None else _fitting(heard.pcm, begin, stream)
    some = list(original)[:2] + list(original)[20:21]
    spectrograms(pictures / "voice.png", {text: (original[text], spoken[text]) for text in some})
    return {
        "original": measure(original).rounded(),
        "nano": measure(spoken, original).rounded(),
        "not_the_right_words": wrong,
    }


def _fitting(pcm: np.ndarray, begin: int, stream: np.ndarray) -> np.ndarray:
    """As many samples as `stream` has, from the frame where they are most like it.

    The first frame that can be heard, `begin`, may be the first or the second of the answer.
    """
    choices = []
    for shift in (0, -1, 1, -2):
        at = max(0, begin - LEAD_FRAMES + shift) * FRAME_SAMPLES
        piece = np.concatenate([pcm[at : at + len(stream)], np.zeros(len(stream), np.float32)])[: len(stream)]
        spectra = [np.abs(np.fft.rfft(x.reshape(-1, 480), axis=1)) ** 0.3 for x in (piece, stream)]
        choices.append((float(np.abs(spectra[0] - spectra[1]).mean()), piece))
    return min(choices, key=lambda choice: choice[0])[1]
