"""Real speech through the whole path, with both codecs: a person, and a synthesizer."""

import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from moshi_mlx.audio.file_stream import FileSource
from moshi_mlx.audio.files import read_audio
from moshi_mlx.runtime.engine import converse
from moshi_mlx.runtime.moshi import Moshi, load
from moshi_mlx.runtime.reply import Reply
from moshi_mlx.sampling_config import GREEDY

PERSON = Path("/usr/share/sounds/alsa/Front_Center.wav")  # Debian's alsa-utils
RECORDINGS = ("person", "flite", "asset")


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Those that this machine has."""
    found = {"asset": Path(__file__).parent / "data" / "question.flac"}
    if PERSON.exists():
        found["person"] = PERSON
    if shutil.which("flite"):
        found["flite"] = tmp_path_factory.mktemp("speech") / "flite.wav"
        subprocess.run(["flite", "-voice", "kal", "-t", "What is the weather?", found["flite"]], check=True)
    return found


@pytest.fixture(scope="module")
def mlx_twin(rust_folder: Path) -> Moshi:
    """The checkpoint of `rust_moshi` with the codec in MLX."""
    return load(str(rust_folder), codec="mlx")


@dataclass
class Memory:
    """A sink that keeps everything."""

    replies: list[Reply] = field(default_factory=list)

    def write(self, reply: Reply) -> None:
        self.replies.append(reply)

    @property
    def text(self) -> str:
        return "".join(reply.text for reply in self.replies)

    @property
    def pcm(self) -> np.ndarray:
        return np.concatenate([reply.audio for reply in self.replies if reply.audio is not None])


def answer(moshi: Moshi, pcm: np.ndarray) -> Memory:
    memory = Memory()
    with moshi.session(1, GREEDY) as session:
        converse(session, FileSource(pcm, lead=0, tail=0.16), memory)
    return memory


@pytest.mark.parametrize("name", RECORDINGS)
def test_both_codecs_give_the_same_answer_to_speech(
    recordings: dict[str, Path], name: str, rust_moshi: Moshi, mlx_twin: Moshi
) -> None:
    if name not in recordings:
        pytest.skip({"person": f"{PERSON} is not here: alsa-utils", "flite": "flite is not here"}[name])
    pcm = read_audio(recordings[name]).pcm[:24_000]  # a second of it
    rust, mlx = answer(rust_moshi, pcm), answer(mlx_twin, pcm)
    assert len(rust.pcm) == 15 * 1920
    assert np.abs(rust.pcm).max() > 0
    assert rust.text == mlx.text
    assert np.abs(rust.pcm - mlx.pcm).max() <= 1e-4 * np.abs(rust.pcm).max()


def test_the_answer_depends_on_what_was_said(recordings: dict[str, Path], rust_moshi: Moshi) -> None:
    pcm = read_audio(recordings["asset"]).pcm[:24_000]
    heard, silence = answer(rust_moshi, pcm), answer(rust_moshi, np.zeros_like(pcm))
    assert heard.text != silence.text
    assert np.abs(heard.pcm - silence.pcm).max() > 0.1 * np.abs(silence.pcm).max()  # far above rounding
