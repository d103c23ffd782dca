"""`python -m moshi_mlx.run_inference`: old flags, same answer."""

import subprocess
import sys
from pathlib import Path

import pytest
import soundfile

pytestmark = pytest.mark.slow

COMMAND = [sys.executable, "-m", "moshi_mlx.run_inference"]


def test_known_flags_answer_a_recording(question: Path, tiny_folder: Path, tmp_path: Path) -> None:
    files = {
        "--moshi-weights": tiny_folder / "model.safetensors",
        "--mimi-weights": tiny_folder / "mimi.safetensors",
        "--tokenizer": tiny_folder / "tokenizer.model",
        "--lm-config": tiny_folder / "config.json",
    }
    options = ["--hf-repo", tiny_folder, "--temp", "0", *(word for pair in files.items() for word in pair)]
    answer = tmp_path / "answer.wav"
    done = subprocess.run([*COMMAND, *options, question, answer], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert soundfile.info(answer).frames == (25 + 38 + 125) * 1920
    assert done.stdout.strip()


def test_what_is_not_supported_is_said(question: Path) -> None:
    done = subprocess.run([*COMMAND, "--cfg-coef", "2", question], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: --cfg-coef 2.0: classifier-free guidance is not supported, only 1 is\n"


def test_a_speech_to_text_model_transcribes(question: Path, stt_folder: Path, tmp_path: Path) -> None:
    answer = tmp_path / "answer.wav"
    done = subprocess.run(
        [*COMMAND, "--hf-repo", stt_folder, question, answer], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert "words in" in done.stderr
    assert not answer.exists(), "there is no audio to be written"
