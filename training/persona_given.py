"""What a finished `nano-persona` says, as codes, for when its work folder is gone.

`python -m training.persona_given MODEL FOLDER` writes FOLDER/persona.npz, as `speech_codes.persona_codes` does.
"""

import sys
from itertools import product
from pathlib import Path

import numpy as np

from moshi_mlx.audio.file_stream import FileSource
from moshi_mlx.runtime.moshi import Moshi, load
from moshi_mlx.runtime.prompt import Prompt
from training.dialogue import UNKNOWN
from training.evaluate_persona import prompts_of
from training.heard import TOGETHER, undecoded
from training.persona_text import ANSWERS, Persona, key, personas, streams
from training.restore import ASKING, cut_out, written_down
from training.speech_codes import save_codes
from training.voices import Voice, speak

LEAD, TAIL = 1.0, 4.5  # seconds of silence around a question
_TRIES = 6  # that somebody else is asked, or by somebody else, who would give the same answer


def given(model: str) -> dict[str, np.ndarray]:
    """Every answer by `persona_text.key`, [8, frames], as the model says it.

    Raises RuntimeError for answers that it does not give.
    """
    moshi = load(model, codec="mlx", offline=True)
    prompts, wanted = prompts_of(moshi, model), streams()
    ways: dict[str, list[tuple[Persona, str, Voice]]] = {name: [] for name in wanted}
    for voice, one, question in product(ASKING, personas(), (*ANSWERS, UNKNOWN[0])):
        ways[key(one.voice, one.answer(question))].append((one, question, voice))
    found: dict[str, np.ndarray] = {}
    for round in range(_TRIES):
        missing = [name for name in wanted if name not in found]
        for first in range(0, len(missing), TOGETHER):
            names = missing[first : first + TOGETHER]
            asked = [ways[name][round * (len(ways[name]) - 1) // (_TRIES - 1)] for name in names]
            said = _said(
                moshi, [prompts[one] for one, *_ in asked], [speak(voice, text).pcm for _, text, voice in asked]
            )
            for name, (one, question, _), (codes, text) in zip(names, asked, said, strict=True):
                spoken = cut_out(codes, wanted[name])
                if text == one.answer(question) and spoken.size:
                    found[name] = spoken
    if missing := wanted.keys() - found.keys():
        raise RuntimeError(f"{model} does not say: {', '.join(sorted(missing))}")
    return {name: found[name] for name in wanted}


def _said(moshi: Moshi, prompts: list[Prompt], recordings: list[np.ndarray]) -> list[tuple[np.ndarray, str]]:
    """What is said to each recording after each prompt, [8, frames], and its text."""
    batch = moshi.batch(len(prompts))
    sessions = [batch.join(seed=0, prompt=prompt) for prompt in prompts]
    sources = [FileSource(pcm, LEAD, TAIL) for pcm in recordings]
    made = [*undecoded(batch, dict(zip(sessions, sources, strict=True)))]
    for session in sessions:
        session.close()
    return [written_down([frame[session] for frame in made]) for session in sessions]


if __name__ == "__main__":
    save_codes(Path(sys.argv[2]) / "persona.npz", given(sys.argv[1]))
