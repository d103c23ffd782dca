"""Write `nano-persona` as it lies in the package: quantized, with its two voices, the codec beside it.

`python -m training.persona_export FOLDER TARGET`. FOLDER: where `train_persona` worked. The codec must be that of
the Nano in the package.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import mlx.core as mx
import numpy as np

from moshi_mlx.checkpoint import nano
from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.checkpoint.voices import FOLDER as VOICES_FOLDER
from moshi_mlx.runtime.moshi import load
from moshi_mlx.weights.quantization import Recipe, make_scheme
from training.curves import write_curve
from training.model_folder import LM_FOLDER, MIMI, START, codec_at, size_of, write_around
from training.persona_lm import config
from training.persona_start import write_learned
from training.persona_text import ANSWERS, MANNERS, NAMES, VOICES, key
from training.persona_voices import heard_voice
from training.persona_words import tokenizer_model
from training.train_persona import WORK

GROUP = 128
RECIPE = Recipe(
    "q4 with q5",
    make_scheme(4, GROUP),
    {"transformer.*": {"bits": 5, "group_size": GROUP}, "text_*": {"bits": 8, "group_size": GROUP}},
)
"""What fits: the depth transformer is stored once for each codebook, and what hears has five bits."""
VOICE_TEXT = "It is a pleasure to meet you."
"""What the voices of the package have said."""


def export(folder: Path, target: Path) -> int:
    """Write the model that was trained in `folder` to `target`; returns its bytes.

    Raises ValueError if its codec is not that of the package, or if it is too large.
    """
    if (folder / WORK / START / MIMI).read_bytes() != (nano.FOLDER / MIMI).read_bytes():
        raise ValueError(f"{folder} has another codec than {nano.FOLDER}: export Nano first, or train anew")
    with np.load(folder / "persona.npz") as stored:
        spoken = {name: stored[key(name, VOICE_TEXT)] for name in VOICES}
    return write_model(Checkpoint.resolve(folder / WORK / LM_FOLDER), spoken, target)


def write_model(trained: Checkpoint, spoken: Mapping[str, np.ndarray], target: Path) -> int:
    """As `export`. spoken: what each of the voices says in its prompt, [8, frames]."""
    (target / VOICES_FOLDER).mkdir(parents=True, exist_ok=True)
    wanted = write_learned(target, trained, RECIPE)
    write_around(target, config(), tokenizer_model(), codec_at(target), wanted.block)
    known = {"names": NAMES, "manners": MANNERS, "voices": tuple(VOICES), "questions": ANSWERS}
    (target / "persona.json").write_text(json.dumps(known, indent=1) + "\n")
    moshi = load(target, codec="mlx", offline=True)
    for name, codes in spoken.items():
        mx.save_safetensors(str(target / VOICES_FOLDER / f"{name}.safetensors"), heard_voice(moshi, codes))
    return size_of(target)


if __name__ == "__main__":
    source, place = Path(sys.argv[1]), Path(sys.argv[2])
    print(f"{place}: {export(source, place) / 1e6:.2f} MB")
    write_curve(source / WORK / LM_FOLDER, ("text", "semantic", "acoustic"), Path("training/results/persona.csv"))
