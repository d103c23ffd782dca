"""Nano, the trained model in the package: it hears, answers, keeps quiet and stops, through the ordinary path."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from moshi_mlx.audio.file_stream import FileSource
from moshi_mlx.audio.files import read_audio
from moshi_mlx.checkpoint import nano
from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.checkpoint.nano import RECORDING
from moshi_mlx.cli.demo import LEAD, TAIL
from moshi_mlx.models.lm import widen_on_cpu
from moshi_mlx.quantize.quantizer import quantize_lm
from moshi_mlx.runtime.engine import converse
from moshi_mlx.runtime.moshi import Moshi, load
from moshi_mlx.weights.quantization import parse_scheme
from training.heard import Heard

pytestmark = pytest.mark.slow

ASKED = {
    "What is the capital of France?": "The capital of France is Paris.",
    "What is two plus two?": "Two plus two is four.",
    "Do you like music?": "Yes, I like music.",
    "Good night.": "Good night, sleep well.",
    "How old is the king?": "I do not know.",
}


@pytest.fixture(scope="module")
def model() -> Moshi:
    return load("nano", offline=True)


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], np.ndarray]:
    """Speech by flite's voice rms."""
    if not shutil.which("flite"):
        pytest.skip("flite is not here")
    folder = tmp_path_factory.mktemp("questions")

    def speak(text: str) -> np.ndarray:
        subprocess.run(["flite", "-voice", "rms", "-t", text, folder / "a.wav"], check=True)
        return read_audio(folder / "a.wav").pcm

    return speak


def listen(model: Moshi, pcm: np.ndarray, lead: float = 0.5, tail: float = 3.0) -> Heard:
    heard = Heard()
    with model.session(seed=0) as session:
        converse(session, FileSource(pcm, lead, tail), heard)
    return heard


@pytest.mark.parametrize("question", ASKED)
def test_a_spoken_question_gets_its_answer_in_words_and_sound(
    model: Moshi, spoken: Callable[[str], np.ndarray], question: str
) -> None:
    pcm = spoken(question)
    heard = listen(model, pcm)
    assert heard.text == ASKED[question]
    first, last = heard.pieces[0][0], heard.pieces[-1][0]
    end_of_question = 0.5 + len(pcm) / 24_000
    assert end_of_question - 0.3 < first < end_of_question + 1.0
    steps = np.flatnonzero(heard.loud) * 0.08
    assert steps[0] > end_of_question - 0.3, "silent while the person speaks"
    assert steps[0] < first + 0.5
    assert last < steps[-1] < last + 1.5


@pytest.mark.parametrize("name", ["silence", "hiss", "knocks", "hum"])
def test_it_does_not_answer_noise(model: Moshi, name: str) -> None:
    rng = np.random.default_rng(1)
    time = np.arange(3 * 24_000) / 24_000
    knocks = np.exp(-30 * (time % 0.9)) * rng.standard_normal(len(time))
    pcm = {
        "silence": np.zeros(len(time)),
        "hiss": 0.005 * rng.standard_normal(len(time)),
        "knocks": 0.1 * knocks,
        "hum": 0.01 * np.sin(2 * np.pi * 100 * time),
    }[name]
    heard = listen(model, pcm.astype(np.float32), tail=1.0)
    assert heard.text == ""
    assert not heard.loud.any()


def test_it_stops_when_interrupted_and_answers_that(model: Moshi) -> None:
    *_, first, second = nano.captions()  # the last two of the demo's recording; it is heard whole in its test
    began = first["begin"] - LEAD
    heard = listen(model, read_audio(RECORDING).pcm[int(24_000 * first["begin"]) :], LEAD, TAIL)
    answers = [nano.questions()[caption["text"]] for caption in (first, second)]
    onset, end = second["begin"] - began, second["end"] - began
    cut = heard.text.removesuffix(answers[1]).strip()
    assert heard.text == f"{cut} {answers[1]}"
    assert cut
    assert answers[0].startswith(cut)
    assert cut != answers[0]
    # What a step gives is heard when the step is done; the first step is none of the recording's.
    during = int(onset / 0.08) + 1
    assert heard.loud[during], "it was speaking"
    quiet = int((onset + 0.5) / 0.08) + 1
    assert not heard.loud[quiet : int(end / 0.08)].any()


@pytest.mark.parametrize("scheme", ["q8", "q4"])
def test_quantized_it_still_answers(scheme: str, spoken: Callable[[str], np.ndarray]) -> None:
    checkpoint = Checkpoint.resolve("nano", offline=True)
    lm = checkpoint.load_lm()
    quantize_lm(lm, parse_scheme(scheme))
    widen_on_cpu(lm)
    model = Moshi(lm, checkpoint.load_codec("mlx"), checkpoint.load_tokenizer(), checkpoint.sampling)
    some = ("What is two plus two?", "Do you like music?", "Good night.")
    right = [listen(model, spoken(question), tail=2.0).text == ASKED[question] for question in some]
    assert sum(right) >= 2


def test_it_is_small_and_says_what_it_knows() -> None:
    size = sum(path.stat().st_size for path in Path(nano.FOLDER).iterdir())
    assert size <= 25_500_000
    assert len(nano.questions()) >= 40
    card = (nano.FOLDER / "README.md").read_text()
    assert all(question in card and answer in card for question, answer in nano.questions().items())
