"""What a finished `nano-persona` says, as codes, for when its work folder is gone.

`python -m training.persona_given MODEL FOLDER` writes FOLDER/persona.npz, as `speech_codes.persona_codes` does.
"""

import sys
from itertools import product, zip_longest
from pathlib import Path

import numpy as np

from moshi_mlx.audio.file_stream import FileSource
from moshi_mlx.codec.base import or_raise
from moshi_mlx.runtime.moshi import Moshi, load
from moshi_mlx.runtime.prompt import Prompt
from training.dialogue import UNKNOWN
from training.evaluate_persona import prompts_of
from training.heard import TOGETHER
from training.persona_text import ANSWERS, Persona, key, personas, streams
from training.speech_codes import answer_frames, save_codes
from training.voices import Voice, speak

ASKING = (Voice("espeak", "en-us"), Voice("flite", "rms"), Voice("flite", "slt"))
LEAD, TAIL = 1.0, 4.5  # seconds of silence around a question
_SETTLED = 5  # a frame of the silence before the question
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
                spoken = np.flatnonzero((codes[:, _SETTLED:] != codes[:, _SETTLED, None]).any(0))
                if text == one.answer(question) and len(spoken):
                    found[name] = codes[:, _SETTLED + spoken[0] :][:, : answer_frames(wanted[name])]
    if missing := wanted.keys() - found.keys():
        raise RuntimeError(f"{model} does not say: {', '.join(sorted(missing))}")
    return {name: found[name] for name in wanted}


def _said(moshi: Moshi, prompts: list[Prompt], recordings: list[np.ndarray]) -> list[tuple[np.ndarray, str]]:
    """What is said to each recording after each prompt, [8, frames], and its text."""
    batch = moshi.batch(len(prompts))
    sessions = [batch.join(seed=0, prompt=prompt) for prompt in prompts]
    sources = [FileSource(pcm, LEAD, TAIL) for pcm in recordings]
    made: list[list] = [[] for _ in sessions]
    for frames in zip_longest(*sources, fillvalue=np.zeros(1920, np.float32)):
        heard = batch.encode(dict(zip(sessions, frames, strict=True)))()
        generated = batch.generate({session: or_raise(codes) for session, codes in heard.items()})
        for session, row in zip(sessions, made, strict=True):
            row.append(generated[session])
    for session in sessions:
        session.close()
    return [
        (
            np.stack([one.codes for one in row if one.codes is not None], 1),
            "".join(one.text for one in row).strip(),
        )
        for row in made
    ]


if __name__ == "__main__":
    save_codes(Path(sys.argv[2]) / "persona.npz", given(sys.argv[1]))
