"""`moshi-mlx run`, from the words of the command line to the file and the lines it leaves."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from moshi_mlx.runtime.moshi import Moshi
from tests.cli.conftest import Done
from tests.config_file import edit
from tests.weights_file import rewrite

pytestmark = pytest.mark.slow

Cli = Callable[..., Done]
MODULE = [sys.executable, "-m", "moshi_mlx"]


@pytest.fixture
def short(tmp_path: Path, question: Path) -> Path:
    """The first 0.4 s of the question, 5 frames."""
    pcm, rate = soundfile.read(question)
    soundfile.write(tmp_path / "short.wav", pcm[: int(0.4 * rate)], rate)
    return tmp_path / "short.wav"


def test_a_recorded_question_is_answered(
    moshi_cli: Cli, question: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    answer = tmp_path / "answer.wav"
    done = moshi_cli("run", question, answer, "--model", tiny_folder, "--codec", "mlx", "--seed", 7, "--tail", 1)
    assert done.code == 0
    pcm, rate = soundfile.read(answer)
    assert rate == 24_000
    assert len(pcm) == (25 + 38 + 13) * 1920  # lead 2 s, question 2.98 s, tail 1 s: whole frames each
    assert np.abs(pcm).max() > 0
    assert len(done.out.strip()) > 0
    assert done.out.count("\n") == 1
    assert done.out.strip() in done.err  # shown live before
    for part in ("question.flac: 2.98 s (resampled from 16000 Hz)", "frames/s", "real-time factor", "decode"):
        assert part in done.err
    assert f"answer in {answer}: 6.08 s" in done.err
    assert done.err.endswith("seed 7\n")


def test_the_answer_is_what_a_session_says(
    moshi_cli: Cli, short: Path, tiny_folder: Path, tiny_moshi: Moshi, tmp_path: Path
) -> None:
    from moshi_mlx.audio.files import read_audio

    answer = tmp_path / "answer.wav"
    silence = ("--lead", 0.16, "--tail", 0.08)
    done = moshi_cli(
        "run", short, answer, "--model", tiny_folder, "--codec", "mlx", "--seed", 7, *silence, "--text-top-k", 5
    )
    pcm = np.concatenate([np.zeros(3 * 1920), read_audio(short).pcm, np.zeros(1920)]).astype(np.float32)
    from dataclasses import replace

    with tiny_moshi.session(7, replace(tiny_moshi.sampling, text_top_k=5)) as session:
        replies = [session.step(frame) for frame in pcm.reshape(-1, 1920)]
    expected = np.concatenate([reply.audio for reply in replies if reply.audio is not None])
    found, _ = soundfile.read(answer, dtype="float32")
    assert np.abs(found - expected.clip(-1, 1)).max() <= 1 / 32768
    assert done.out.strip() == "".join(reply.text for reply in replies).strip()


def test_json_is_one_event_a_line(moshi_cli: Cli, short: Path, tiny_folder: Path) -> None:
    done = moshi_cli("run", short, "--model", tiny_folder, "--codec", "mlx", "--seed", 7, "--tail", 2, "--json")
    events = [json.loads(line) for line in done.out.splitlines()]
    *texts, end = events
    assert all(set(event) == {"event", "t", "text"} and event["event"] == "text" for event in texts)
    times = [event["t"] for event in texts]
    assert times == sorted(set(times))
    assert all(0 <= time <= end["frames"] * 0.08 for time in times)
    assert end["text"] == "".join(event["text"] for event in texts).strip()
    assert (end["event"], end["seed"], end["interrupted"], end["output"]) == ("end", 7, False, None)
    assert end["frames"] == 1 + 25 + 5 + 25
    assert set(end["stages"]) == {"encode", "generate", "decode"}


def test_the_reply_delay_counts_from_the_end_of_the_speech(
    moshi_cli: Cli, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from moshi_mlx.conversation.transcript import Transcript

    asked = []
    monkeypatch.setattr(Transcript, "delay_after", lambda self, seconds: asked.append(seconds) or 0.25)
    pcm = 0.1 * np.random.RandomState(0).standard_normal(24_000)
    pcm[3 * 1920 :] = 0
    soundfile.write(tmp_path / "short.wav", pcm, 24_000)
    options = ("--model", tiny_folder, "--codec", "mlx", "--json", "--lead", 0.5, "--tail", 0)
    done = moshi_cli("run", tmp_path / "short.wav", *options)
    assert asked == [pytest.approx(7 * 0.08 + 3 * 0.08)]  # the lead, in whole frames, and three loud ones
    assert json.loads(done.out.splitlines()[-1])["reply_delay"] == 0.25


def test_a_seed_repeats_the_answer_and_none_does_not(moshi_cli: Cli, short: Path, tiny_folder: Path) -> None:
    def words(*options: object) -> tuple[str, str]:
        done = moshi_cli("run", short, "--model", tiny_folder, "--codec", "mlx", "--tail", 1, *options)
        return done.out, done.err.splitlines()[-1].removeprefix("seed ")

    first, seed = words()
    assert words("--seed", seed) == (first, seed)
    assert words()[0] != first


def test_standard_input_and_output(short: Path, tiny_folder: Path, tmp_path: Path) -> None:
    options = ["--model", tiny_folder, "--codec", "mlx", "--seed", "1", "--tail", "1", "--quiet"]
    first = subprocess.run(
        [*MODULE, "run", "-", "-", *options], input=short.read_bytes(), capture_output=True, check=True
    )
    assert first.stderr == b""
    (tmp_path / "piped.wav").write_bytes(first.stdout)
    named = tmp_path / "named.wav"
    subprocess.run([*MODULE, "run", short, named, *options], capture_output=True, check=True)
    assert np.array_equal(soundfile.read(tmp_path / "piped.wav")[0], soundfile.read(named)[0])


def test_quiet_says_nothing_but_the_words(moshi_cli: Cli, short: Path, tiny_folder: Path) -> None:
    done = moshi_cli("run", short, "--model", tiny_folder, "--codec", "mlx", "--quiet")
    assert (done.code, done.err) == (0, "")
    assert done.out.strip()


@pytest.mark.parametrize("quiet", [[], ["--quiet"]], ids=["aloud", "quiet"])
def test_a_note_on_the_recording_comes_whatever_else_is_shown(
    moshi_cli: Cli, short: Path, tiny_folder: Path, tmp_path: Path, quiet: list[str]
) -> None:
    """Its twin without a note: `test_quiet_says_nothing_but_the_words`, `test_json_is_one_event_a_line`."""
    pcm, rate = soundfile.read(short)
    soundfile.write(tmp_path / "thunder.wav", 5000 * pcm / np.abs(pcm).max(), rate, subtype="FLOAT")
    options = ("--model", tiny_folder, "--codec", "mlx", "--lead", 0, "--tail", 0, *quiet)
    done = moshi_cli("run", tmp_path / "thunder.wav", "--json", *options)
    (note,) = [event["text"] for line in done.out.splitlines() if (event := json.loads(line))["event"] == "note"]
    assert "peaks at 5,000 times full scale" in note
    assert f"note: {note}\n" in done.err
    assert json.loads(done.out.splitlines()[0])["event"] == "note", "before the first word"
    assert (done.err == f"note: {note}\n") == bool(quiet)


def test_what_is_doubtful_about_the_weights_is_a_note(moshi_cli: Cli, short: Path, folder: Path) -> None:
    rewrite(folder / "model.safetensors", lambda arrays: arrays["text_linear.weight"].__setitem__(slice(None), 0))
    shutil.copy(folder / "model.safetensors", folder / "consolidated.safetensors")
    edit(folder, moshi_name=None)
    options = ("--model", folder, "--codec", "mlx", "--lead", 0, "--tail", 0, "--quiet")
    done = moshi_cli("run", short, "--json", *options)
    notes = [event["text"] for line in done.out.splitlines() if (event := json.loads(line))["event"] == "note"]
    assert [f"note: {note}" for note in notes] == done.err.splitlines()
    assert ["zeros in text_linear.weight" in note for note in notes] == [False, True]


@pytest.mark.parametrize(("stop", "name"), [(signal.SIGINT, "answer.wav"), (signal.SIGTERM, "answer.opus")])
def test_ctrl_c_keeps_what_was_said(
    question: Path, tiny_folder: Path, tmp_path: Path, stop: signal.Signals, name: str
) -> None:
    answer = tmp_path / name
    command = [
        *MODULE,
        "run",
        question,
        answer,
        "--model",
        tiny_folder,
        "--codec",
        "mlx",
        "--tail",
        "3600",
        "--json",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
        assert program.stdout
        for _ in range(5):  # it is talking
            assert json.loads(program.stdout.readline())["event"] == "text"
        program.send_signal(stop)
        out, err = program.communicate(timeout=120)
    assert program.returncode == 130
    end = json.loads(out.splitlines()[-1])
    assert (end["event"], end["interrupted"]) == ("end", True)
    assert "interrupted" in err
    assert "Traceback" not in err
    assert soundfile.info(answer).frames == round(end["output_seconds"] * 24_000) > 0
    assert os.listdir(tmp_path) == [name]


BAD = {
    "no recording": (["missing.wav"], "error: missing.wav does not exist"),
    "no folder": (["short.wav", "nowhere/a.wav"], "error: cannot write nowhere/a.wav: the folder "),
    "onto itself": (["short.wav", "short.wav"], "error: short.wav is the recording itself"),
    "no model": (["short.wav", "--model", "nobody"], "error: there is no model 'nobody'"),
    "a long recording": (["a" * 300 + ".wav"], f"error: cannot read {'a' * 300}.wav: File name too long"),
    "a long name": (["short.wav", "--model", "m" * 300], "error: there is no model"),
    "nobody's home": (
        ["short.wav", "--model", "~nobody-of-that-name/x"],
        "error: ~nobody-of-that-name/x does not",
    ),
    "no codec": (["short.wav", "--codec", "mp3", "--model", "TINY"], "Error: Invalid value for '--codec'"),
    "no such top-p": (["short.wav", "--top-p", "2", "--model", "TINY"], "error: top_p is 2.0; it must be between"),
    "not quantized": (["short.wav", "-q", "4", "--model", "TINY"], "error: -q asks for q4"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_mistake_is_one_line_and_an_exit_code(
    moshi_cli: Cli, short: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    words, expected = BAD[case]
    monkeypatch.chdir(short.parent)
    done = moshi_cli("run", *(str(tiny_folder) if word == "TINY" else word for word in words))
    wrong_usage = case in ("no codec", "no such top-p")  # no model could make it right
    assert (done.code, done.out) == (2 if wrong_usage else 1, "")
    last = done.err.splitlines()[-1]
    assert last.startswith(expected)
    assert [path.name for path in short.parent.iterdir()] == ["short.wav"]


def test_an_answer_onto_links_in_a_circle_is_one_line(moshi_cli: Cli, short: Path, tmp_path: Path) -> None:
    circle = tmp_path / "circle.wav"
    circle.symlink_to(circle)
    done = moshi_cli("run", short, circle)
    assert (done.code, done.out) == (1, "")
    assert done.err.splitlines()[-1].startswith(f"error: cannot write {circle}: ")


def test_missing_model_offline(
    moshi_cli: Cli, short: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    done = moshi_cli("run", short, tmp_path / "answer.wav", "--offline")
    assert done.code == 1
    assert "kyutai/moshiko-mlx-q4 is not in the cache and --offline forbids fetching it" in done.err
    assert not (tmp_path / "answer.wav").exists()


def test_wrong_usage_is_exit_code_2(moshi_cli: Cli, short: Path) -> None:
    assert moshi_cli("run", short, "-", "--json").code == 2
    assert moshi_cli("run", short, "--lead", -1).code == 2
    assert moshi_cli("run", short, "--lead", "inf").code == 2
    assert moshi_cli("run", short, "--tail", "1e13").code == 2
    assert moshi_cli("run", short, "--seed", 2**32).code == 2
    assert moshi_cli("run").code == 2


@pytest.mark.parametrize("name", ["answer.m4a", "answer.WEBM", "answer.raw"])
def test_an_answer_is_never_called_what_it_is_not(moshi_cli: Cli, short: Path, tmp_path: Path, name: str) -> None:
    done = moshi_cli("run", short, tmp_path / name, "--model", "nano")
    assert done.code == 1
    assert "call it answer.wav and convert it" in done.err
    assert not (tmp_path / name).exists()
