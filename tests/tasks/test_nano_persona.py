"""nano-persona, the trained PersonaPlex in the package: it has name, manner and voice of its prompts."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from moshi_mlx.audio.file_stream import FileSource
from moshi_mlx.audio.files import read_audio
from moshi_mlx.checkpoint import nano
from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.checkpoint.voices import Voices
from moshi_mlx.frames import SAMPLE_RATE
from moshi_mlx.runtime.engine import converse
from moshi_mlx.runtime.moshi import Moshi, load
from moshi_mlx.tasks.persona import Role
from training.heard import Heard
from training.persona_questions import BETWEEN
from training.pitch import pitch
from training.voices import Voice, speak

pytestmark = pytest.mark.slow

FOLDER = nano.EMBEDDED[nano.PERSONA_NAME]
KNOWN = nano.persona()
CAPITAL, NAME = "What is the capital of France?", "What is your name?"
ASKED = {
    CAPITAL: {"brief": "Paris.", "friendly": "It is Paris, my friend.", "formal": "The capital would be Paris."},
    NAME: {"brief": "{}.", "friendly": "I am {}, my friend.", "formal": "You may call me {}."},
}
TOO_HIGH = ("Paris.", "Yes.")  # in the male voice: see its card


@pytest.fixture(scope="module")
def moshi() -> Moshi:
    return load(nano.PERSONA_NAME, codec="mlx", offline=True)


@pytest.fixture(scope="module")
def voices() -> Voices:
    return Voices(nano.PERSONA_NAME, offline=True)


def answer(moshi: Moshi, role: Role, pcm: np.ndarray) -> Heard:
    heard = Heard()
    with moshi.session(seed=0, prompt=role.prompt(moshi)) as session:
        converse(session, FileSource(pcm, 1.0, 3.0), heard)
    return heard


def spoken(question: str) -> np.ndarray:
    """A question: by the demo's recording, or by flite's voice awb."""
    for one in nano.captions():
        if one["text"] == question:
            return read_audio(nano.RECORDING).pcm[: round(one["end"] * SAMPLE_RATE)]
    if not shutil.which("flite"):
        pytest.skip("flite is not here")
    return speak(Voice("flite", "awb"), question).pcm


@pytest.mark.parametrize("question", [CAPITAL, NAME])
@pytest.mark.parametrize("voice", KNOWN["voices"])
@pytest.mark.parametrize("manner", KNOWN["manners"])
def test_it_answers_with_the_name_the_manner_and_the_voice_it_is_told(
    moshi: Moshi, voices: Voices, question: str, manner: str, voice: str
) -> None:
    name = KNOWN["names"][3 + KNOWN["manners"].index(manner)]  # its card says who of the others is not obeyed
    role = Role(f"You are {name} and you are {manner}.", voices.read(voice))
    heard = answer(moshi, role, spoken(question))
    assert heard.text == ASKED[question][manner].format(name)
    height = pitch(heard.pcm)
    assert height is not None
    assert (height < BETWEEN) == (voice == "male" and heard.text not in TOO_HIGH), height


@pytest.mark.parametrize("name", KNOWN["names"])
def test_it_knows_each_of_its_names(moshi: Moshi, voices: Voices, name: str) -> None:
    role = Role(f"You are {name} and you are brief.", voices.read("female"))
    assert answer(moshi, role, spoken(NAME)).text == f"{name}."


def test_a_role_lasts_for_several_turns(moshi: Moshi, voices: Voices) -> None:
    role = Role("You are Oscar and you are formal.", voices.read("male"))  # as in README.md
    pause = np.zeros(round(3.2 * SAMPLE_RATE), np.float32)
    heard = answer(moshi, role, np.concatenate([spoken(CAPITAL), pause, spoken(NAME), pause, spoken(CAPITAL)]))
    capital = ASKED[CAPITAL]["formal"]
    assert heard.text == f"{capital} You may call me Oscar. {capital}"


def test_it_says_nothing_to_silence(moshi: Moshi, voices: Voices) -> None:
    heard = answer(moshi, Role("You are Ada and you are brief.", voices.read("male")), np.zeros(4 * SAMPLE_RATE))
    assert heard.text == ""
    assert not heard.loud.any()


def test_it_is_small_and_shares_nanos_codec() -> None:
    checkpoint = Checkpoint.resolve(nano.PERSONA_NAME, offline=True)
    assert checkpoint.lm_config.takes_prompt
    assert checkpoint.mimi_weights.samefile(nano.FOLDER / "mimi.safetensors")
    assert sum(path.stat().st_size for path in Path(FOLDER).rglob("*") if path.is_file()) <= 6_000_000
    assert Voices(nano.PERSONA_NAME, offline=True).names == KNOWN["voices"]


def test_who_is_about_to_talk_to_it_is_told_what_it_can_be() -> None:
    (note,) = Checkpoint.resolve(nano.PERSONA_NAME, offline=True).notes
    assert all(word in note for kind in ("names", "manners", "voices") for word in KNOWN[kind])
    assert f"{len(KNOWN['questions'])} questions" in note
