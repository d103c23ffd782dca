"""Encode the words that `nano-tts` learns to say, with the encoder that the codebooks were made with.

`python -m training.tts_codes FOLDER` makes them once, in FOLDER/tts. FOLDER is the work folder of Nano.
"""

import os
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from moshi.models.compression import MimiModel

from training import speech_codes
from training.answers import LEAD_FRAMES
from training.codec import FRAME, Codec, folded
from training.tts_speech import ENDS, PCM, SILENCE, TTS_FOLDER, WORDS, names, spoken


def make(folder: Path, codec: Codec) -> None:
    """Make the words, unless they are there (three minutes)."""
    place = folder / TTS_FOLDER
    if (place / WORDS).exists():
        return
    place.mkdir(exist_ok=True)
    np.save(place / SILENCE, speech_codes.own_codes(folder, codec)[0])
    global _mouth
    _mouth = folded(speech_codes.speaking(folder, codec))
    with ProcessPoolExecutor(os.cpu_count(), get_context("fork"), torch.set_num_threads, (1,)) as workers:
        made = dict(zip(names(), workers.map(_word, names(), chunksize=20), strict=True))
    speech_codes.save_codes(place / PCM, {name: pcm for name, (pcm, _) in made.items()})
    speech_codes.save_codes(place / WORDS, {name: codes for name, (_, codes) in made.items()})


_mouth: MimiModel | None = None


def _word(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Its samples, and its codes as they are after silence; what ends a phrase has one frame more, to die away."""
    assert _mouth
    pcm = spoken(name)
    if name.endswith(ENDS):
        pcm = np.pad(pcm, (0, FRAME))
    codes = speech_codes.encode(_mouth, np.pad(pcm, (LEAD_FRAMES * FRAME, 0)))
    return pcm, codes[:, LEAD_FRAMES:]


if __name__ == "__main__":
    from training import train_codec

    where = Path(sys.argv[1])
    make(where, train_codec.load(where)[0])
