"""nano-stt, the trained speech-to-text model in the package: words, times and pauses of speech."""

from pathlib import Path

import numpy as np
import pytest

from moshi_mlx.audio.files import read_audio
from moshi_mlx.checkpoint import nano
from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.frames import SAMPLE_RATE
from moshi_mlx.quality.transcription import word_errors
from moshi_mlx.tasks.transcribe import Transcriber, load_transcriber
from moshi_mlx.tasks.words import Transcription

FOLDER = nano.EMBEDDED[nano.STT_NAME]


@pytest.fixture(scope="module")
def transcriber() -> Transcriber:
    return load_transcriber(nano.STT_NAME, codec="mlx", offline=True)


@pytest.fixture(scope="module")
def found(transcriber: Transcriber) -> Transcription:
    return transcriber.transcribe(read_audio(nano.RECORDING).pcm)


def test_it_writes_down_what_is_asked_in_the_demo(found: Transcription) -> None:
    asked = " ".join(one["text"] for one in nano.captions())
    assert word_errors(asked, found.text).rate <= 0.1, found.text


def test_words_stand_where_they_are_said_and_pauses_where_a_question_ends(found: Transcription) -> None:
    questions = nano.captions()
    for word in found.words:
        assert any(one["begin"] - 0.2 <= word.start <= one["end"] for one in questions), word
    for one in questions:
        assert any(one["end"] - 0.3 <= pause.time <= one["end"] + 1.0 for pause in found.pauses), one


def test_it_hears_no_words_in_silence_and_noise(transcriber: Transcriber) -> None:
    noise = 0.003 * np.random.RandomState(0).standard_normal(4 * SAMPLE_RATE)
    assert not transcriber.transcribe(np.concatenate([np.zeros(SAMPLE_RATE), noise]).astype(np.float32)).words


def test_it_is_small_and_shares_nanos_codec() -> None:
    checkpoint = Checkpoint.resolve(nano.STT_NAME, offline=True)
    assert checkpoint.mimi_weights.samefile(nano.FOLDER / "mimi.safetensors")
    assert sum(path.stat().st_size for path in Path(FOLDER).iterdir()) <= 6_000_000
    assert checkpoint.lm_config.extra_heads == 4
