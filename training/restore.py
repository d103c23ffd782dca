"""Make a work folder from a finished model, to train on where its work folder is gone.

`python -m training.restore MODEL_FOLDER FOLDER [CODEC_STEPS [SPEAKING]]`. What a model does not hold begins
anew: the state of optimizers, the head that hears phones, and the step counts, so that every phase is run again
from these weights, but for the first CODEC_STEPS. The codes of its answers, which the decoder was fitted to, are
those that it gives. SPEAKING is the codec's file of the package's revision d62ed12, whose encoder hears Nano's
voice as the decoder was made for.
"""

import shutil
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from moshi_mlx.audio.file_stream import FileSource
from moshi_mlx.runtime.moshi import Moshi, load
from moshi_mlx.runtime.reply import Generated
from training.answers import answer_streams
from training.codec import Codec
from training.dialogue import ANSWERS, UNKNOWN
from training.model_folder import MIMI, START
from training.speech_codes import SPEAKING, answer_frames, save_codes
from training.voices import Voice, speak

_SETTLED = 5  # a frame of the silence before the question
ASKING = (Voice("espeak", "en-us"), Voice("flite", "rms"), Voice("flite", "slt"))
"""Who asks, one after the other until it answers."""


def restore(model: Path, folder: Path, codec_steps: int = 0, speaking: Path | None = None) -> None:
    """Write FOLDER/codec.pt and FOLDER/own.npz from a model that `export` wrote, and copy it to FOLDER/start.

    speaking: the codec's file of a revision before its encoder went on alone, for `speech_codes.speaking`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    codec = trainable(model / MIMI)
    torch.save({"codec": codec.state_dict(), "steps": codec_steps}, folder / "codec.pt")
    shutil.copytree(model, folder / START, dirs_exist_ok=True)
    if speaking:
        torch.save(trainable(speaking).state_dict(), folder / SPEAKING)
    silence, answers = given(model)
    save_codes(folder / "own.npz", {"silence": silence[:, None], **answers})


def trainable(path: Path) -> Codec:
    """The codec of a file that `export` wrote; its heads know nothing."""
    codec = Codec()
    state = codec.state_dict()
    plain = {key.removeprefix("mimi."): key for key in state if key.startswith("mimi.")}
    for name, value in in_memory(load_file(path), list(plain)).items():
        if name in plain:
            state[plain[name]] = value
        else:  # a convolution: its direction and its length
            state[f"mimi.{name}_v"] = value
            state[f"mimi.{name}_g"] = value.flatten(1).norm(dim=1).view_as(state[f"mimi.{name}_g"])
    codec.load_state_dict(state)
    return codec


def given(model: Path) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """As `speech_codes.own_codes`: the code of silence [8] and every answer's [8, frames], as Nano says them.

    Raises RuntimeError for an answer that it does not give.
    """
    moshi = load(str(model), offline=True)
    silence, answers = np.zeros(0, np.int64), {}
    for answer, stream in answer_streams().items():
        for question, voice in product(_asked(answer), ASKING):
            codes, said = _heard(moshi, speak(voice, question).pcm)
            silence, spoken = codes[:, _SETTLED], cut_out(codes, stream)
            if said == answer and spoken.size:
                answers[answer] = spoken
                break
        else:
            raise RuntimeError(f"asked {_asked(answer)[0]!r} and the like, {model} does not say {answer!r}")
    return silence, answers


def _asked(answer: str) -> list[str]:
    """What is answered by this."""
    return [question for question, said in ANSWERS.items() if said == answer] or [*UNKNOWN[:20]]


def _heard(moshi: Moshi, pcm: np.ndarray) -> tuple[np.ndarray, str]:
    """What is said to a recording, [8, frames], and its text."""
    with moshi.session(seed=0) as session:
        made = [session.generate(session.encode(frame)) for frame in FileSource(pcm, 1.0, 5.0)]
    return written_down(made)


def written_down(made: Sequence[Generated]) -> tuple[np.ndarray, str]:
    """What a model has made of a conversation: its codes, [8, frames], and its text."""
    codes = np.stack([one.codes for one in made if one.codes is not None], 1)
    return codes, "".join(one.text for one in made).strip()


def cut_out(codes: np.ndarray, stream: np.ndarray) -> np.ndarray:
    """The answer in what is said to a question, [8, frames], from its first sound on; none where all is silent.

    stream: how the answer sounds, as `answers.stream_of` gives it.
    """
    spoken = np.flatnonzero((codes[:, _SETTLED:] != codes[:, _SETTLED, None]).any(0))
    first = _SETTLED + spoken[0] if len(spoken) else codes.shape[1]
    return codes[:, first:][:, : answer_frames(stream)]


def in_memory(published: dict[str, torch.Tensor], names: list[str]) -> dict[str, torch.Tensor]:
    """Float32 tensors of a published file under the names that modules have: the inverse of `export.published`."""
    out = {name: value.float() for name, value in published.items()}
    for held, stored in ((".in_projs.", ".in_proj_weight"), (".out_projs.", ".out_proj.weight")):
        for layer in dict.fromkeys(name.split(held)[0] for name in names if held in name):
            parts = [name for name in names if name.startswith(layer + held)]
            out |= dict(zip(parts, out.pop(layer + stored).chunk(len(parts)), strict=True))
    return out


if __name__ == "__main__":
    steps, mouth = [*sys.argv[3:], None, None][:2]
    restore(Path(sys.argv[1]), Path(sys.argv[2]), int(steps or 0), Path(mouth) if mouth else None)
