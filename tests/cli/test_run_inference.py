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


def test_guidance_needs_a_model_with_conditions(question: Path, tiny_folder: Path) -> None:
    command = [*COMMAND, "--hf-repo", tiny_folder, "--cfg-coef", "2", question]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith(
        "error: guidance of 2 compares two conditions, but this model takes none; leave it at 1\n"
    )


def test_hibiki_translates(question: Path, hibiki_folder: Path, tmp_path: Path) -> None:
    said = set()
    for guidance in ("1", "3"):
        answer = tmp_path / f"{guidance}.wav"
        options = ["--hf-repo", hibiki_folder, "--temp", "0", "--cfg-coef", guidance]
        done = subprocess.run([*COMMAND, *options, question, answer], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "translation in" in done.stderr
        assert soundfile.info(answer).frames > 38 * 1920
        said.add(done.stdout)
    assert len(said) == 2


def test_a_speech_to_text_model_transcribes(question: Path, stt_folder: Path, tmp_path: Path) -> None:
    answer = tmp_path / "answer.wav"
    done = subprocess.run(
        [*COMMAND, "--hf-repo", stt_folder, question, answer], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert "words in" in done.stderr
    assert not answer.exists(), "there is no audio to be written"
    assert f"so {answer} is not written" in done.stderr
    piped = subprocess.run(
        [*COMMAND, "--hf-repo", stt_folder, "-"], input=question.read_bytes(), capture_output=True, check=False
    )
    assert piped.returncode == 0, piped.stderr
    assert piped.stdout.decode() == done.stdout
    assert b"note:" not in piped.stderr
