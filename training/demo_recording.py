"""The recording of `moshi-mlx demo`: two questions, and a third one that is interrupted by a fourth.

`python -m training.demo_recording ASSETS_FOLDER` writes demo.flac and demo.json there.
"""

import json
import sys
from pathlib import Path

import numpy as np
import soundfile

from training.augment import trimmed
from training.voices import HELD_OUT_VOICES, SAMPLE_RATE, speak

VOICE = HELD_OUT_VOICES[2]
SCRIPT = (  # seconds from the end of what was said before, and what is said
    (0.0, "What is the capital of France?"),
    (3.4, "What can you do?"),
    (3.6, "How many hours are in a day?"),
    (1.0, "Who made you?"),
)


def make(folder: Path) -> None:
    """Write the recording and its captions."""
    parts, captions, time = [], [], 0.0
    for pause, text in SCRIPT:
        silence = np.zeros(round(pause * SAMPLE_RATE), np.float32)
        pcm = trimmed(speak(VOICE, text).pcm, 0.01, 240)
        begin = time + len(silence) / SAMPLE_RATE
        time = begin + len(pcm) / SAMPLE_RATE
        captions.append({"begin": round(begin, 2), "end": round(time, 2), "text": text})
        parts += [silence, pcm]
    soundfile.write(folder / "demo.flac", np.concatenate(parts), SAMPLE_RATE, subtype="PCM_16")
    (folder / "demo.json").write_text(json.dumps(captions, indent=1) + "\n")


if __name__ == "__main__":
    make(Path(sys.argv[1]))
