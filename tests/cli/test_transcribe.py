"""`moshi-mlx transcribe` with a small random model: what goes where, and what is refused."""

import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from moshi_mlx.audio.files import read_audio
from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.checkpoint.nano import RECORDING
from moshi_mlx.cli.transcription import Lines
from moshi_mlx.runtime.moshi import load
from moshi_mlx.tasks.captions import FORMATS
from moshi_mlx.tasks.transcribe import SttTiming, Transcriber
from moshi_mlx.tasks.words import Pause, Transcription, Word
from tests.cli.conftest import Done
from tests.cli.test_chat import Chat, is_ready
from tests.sound_card import SoundCard

Cli = Callable[..., Done]


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of noise."""
    path = tmp_path_factory.mktemp("recordings") / "talk.wav"
    noise = 0.1 * np.random.RandomState(0).standard_normal(48_000)
    soundfile.write(path, noise, 24_000)
    return path


@pytest.fixture(scope="module")
def expected(talk: Path, stt_folder: Path) -> Transcription:
    timing = SttTiming.from_settings(Checkpoint.find(stt_folder).settings)
    found = Transcriber(load(stt_folder, codec="mlx"), timing).transcribe(read_audio(talk).pcm)
    assert len(found.segments) > 1, "the model should say something"
    return found


@pytest.fixture
def transcribe(moshi_cli: Cli, stt_folder: Path) -> Cli:
    return lambda *words: moshi_cli("transcribe", "--model", stt_folder, "--codec", "mlx", *words)


def test_words_go_to_stdout_a_segment_a_line(transcribe: Cli, talk: Path, expected: Transcription) -> None:
    done = transcribe(talk)
    assert done.code == 0
    assert done.out == FORMATS["txt"](expected)
    assert f"{len(expected.words)} words in" in done.err
    assert "passes" in done.err
    quiet = transcribe(talk, "-", "--quiet")
    assert (quiet.out, quiet.err) == (done.out, "")


def test_the_model_in_the_package_needs_no_network(moshi_cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    done = moshi_cli("transcribe", RECORDING, "--model", "nano-stt")
    assert done.code == 0
    assert [line[:22] for line in done.out.splitlines()[:2]] == ["what is the capital of", "what can you do"]


@pytest.mark.parametrize("kind", FORMATS)
def test_out_says_the_format(
    transcribe: Cli, talk: Path, expected: Transcription, tmp_path: Path, kind: str
) -> None:
    done = transcribe(talk, tmp_path / f"out.{kind}")
    assert done.code == 0
    assert done.out == ""
    assert (tmp_path / f"out.{kind}").read_text() == FORMATS[kind](expected)


def test_a_format_goes_to_stdout_where_out_is_a_dash(
    transcribe: Cli, talk: Path, expected: Transcription, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(talk.read_bytes())))
    assert transcribe("-", "-", "--format", "srt").out == FORMATS["srt"](expected)


def test_events_as_json(transcribe: Cli, talk: Path, expected: Transcription) -> None:
    lines = [json.loads(line) for line in transcribe(talk, "--json").out.splitlines()]
    words = [line for line in lines if line["event"] == "word"]
    assert words == [
        {"event": "word", "word": word.text, "start": word.start, "end": word.end} for word in expected.words
    ]
    pauses = [(line["pause"], line["p"]) for line in lines if line["event"] == "pause"]
    assert pauses == [(pause.time, round(pause.probability, 4)) for pause in expected.pauses]
    end = lines[-1]
    assert (end["event"], end["text"], end["seconds"]) == ("end", expected.text, 2.0)
    assert 0 < end["passes"] <= end["frames"] == 45, "2 s, the delay, a second, and the step before"
    assert not end["interrupted"]


def test_several_recordings_go_together(
    transcribe: Cli, talk: Path, expected: Transcription, tmp_path: Path
) -> None:
    folder = tmp_path / "talks"
    folder.mkdir()
    shutil.copy(talk, folder / "a.wav")
    soundfile.write(folder / "b.flac", np.zeros(12_000), 24_000)
    (folder / "notes.md").write_text("no recording")
    done = transcribe(folder)
    assert done.out.splitlines()[0] == f"{folder / 'a.wav'}: {expected.text}"
    assert done.out.splitlines()[1].startswith(f"{folder / 'b.flac'}: ")
    into = tmp_path / "texts"
    into.mkdir()
    assert transcribe(folder, "--format", "vtt", "--into", into).out == ""
    assert sorted(path.name for path in into.iterdir()) == ["a.vtt", "b.vtt"]
    assert (into / "a.vtt").read_text() == FORMATS["vtt"](expected)
    lines = [json.loads(line) for line in transcribe(folder, "--json").out.splitlines()]
    assert [line["file"] for line in lines if line["event"] == "end"] == [
        str(folder / "a.wav"),
        str(folder / "b.flac"),
    ]


def test_one_that_cannot_be_read_does_not_stop_the_others(
    transcribe: Cli, talk: Path, expected: Transcription, tmp_path: Path
) -> None:
    done = transcribe(talk, tmp_path / "lost.wav")
    assert done.code == 1
    assert done.out == f"{talk}: {expected.text}\n"
    assert f"error: {tmp_path / 'lost.wav'} does not exist" in done.err


def test_what_cannot_be_is_said_before_the_model_is_loaded(moshi_cli: Cli, talk: Path, tmp_path: Path) -> None:
    def said(*words: object) -> str:
        done = moshi_cli("transcribe", "--model", "/nowhere", *words)
        assert done.code != 0
        return " ".join(done.err.replace("│", " ").split())

    assert "2 recordings cannot all go to out.srt" in said(talk, talk, "out.srt")
    assert "would both be written to" in said(talk, talk, "--format", "srt")
    assert "there is no folder /nowhere" in said(talk, "/nowhere/out.srt")
    assert "contradict each other" in said(talk, "out.srt", "--format", "vtt")
    assert "both want standard output" in said(talk, "-", "--json")
    assert "name a recording" in said()
    assert "holds no recordings" in said(tmp_path)
    assert "give --into or OUT" in said("-", "--format", "srt")
    assert "lost.wav does not exist" in said("lost.wav")
    assert "/nowhere does not exist" in said(talk), "all else is right"
    assert "leave out" in said("--live", talk)
    assert "recordings cannot all go to standard output as vtt" in said(talk, talk, "-", "--format", "vtt")
    assert "contradict each other" in said(talk, "out.srt", "--into", tmp_path)
    assert "leave out --into" in said("--live", "--into", tmp_path)
    assert "is the microphone of --live" in said(talk, "--input", "3")


def test_a_folder_called_live_does_not_stand_in_the_way(
    moshi_cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "live").mkdir()
    monkeypatch.chdir(tmp_path)
    done = moshi_cli("transcribe", "--live", "--input", "no such microphone", "--model", "/nowhere")
    assert done.code == 1
    assert "recordings" not in done.err, "it is the microphone that is not found"


def test_lines_end_where_segments_do(capsys: pytest.CaptureFixture[str]) -> None:
    # A word comes half a second after it was said, so two pauses may be known before it.
    words = [Word("a", 0.0, 0.4), Word("b", 0.5, 0.8), Word("c", 0.85, 0.95), Word("d", 1.0, 1.2)]
    pauses = [Pause(0.45, 0.9), Pause(0.9, 0.9)]
    lines = Lines()
    for event in (words[0], *pauses, *words[1:]):
        lines.write(event)
    lines.finish()
    assert capsys.readouterr().out == FORMATS["txt"](Transcription(1.2, words, pauses)) == "a\nb c\nd\n"


def test_a_model_is_used_for_what_it_can(moshi_cli: Cli, stt_folder: Path, tiny_folder: Path, talk: Path) -> None:
    refused = moshi_cli("run", "--model", stt_folder, talk)
    assert refused.code == 1
    assert f"use `moshi-mlx transcribe --model {stt_folder}`" in refused.err
    refused = moshi_cli("transcribe", "--model", tiny_folder, talk)
    assert refused.code == 1
    assert f"let it answer with `moshi-mlx run --model {tiny_folder}`" in refused.err


@pytest.fixture(scope="module")
def headless(stt_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model as published for MLX: without heads."""
    from moshi_mlx.checkpoint.random_checkpoint import TINY_STT, write_random_checkpoint

    config = {**TINY_STT, "extra_heads_num_heads": 0}
    return write_random_checkpoint(tmp_path_factory.mktemp("checkpoints") / "headless", config, layout="mlx")


def test_heads_come_from_another_file(
    moshi_cli: Cli,
    headless: Path,
    stt_folder: Path,
    tiny_folder: Path,
    talk: Path,
    expected: Transcription,
    tmp_path: Path,
) -> None:
    def call(*words: object) -> Done:
        return moshi_cli("transcribe", "--model", headless, "--codec", "mlx", "--json", talk, *words)

    without = call()
    assert without.err.count("no voice activity heads") == 1
    assert '"pause"' not in without.out
    text = moshi_cli("transcribe", "--model", headless, "--codec", "mlx", talk)
    assert "voice activity" not in text.err, "only events tell of pauses"
    both = call("--vad-heads", stt_folder / "model.safetensors")
    assert "voice activity" not in both.err
    assert both.out.count('"event": "pause"') == len(expected.pauses) > 0
    assert "holds no voice activity heads" in call("--vad-heads", tiny_folder / "model.safetensors").err
    assert call("--vad-heads", "/nowhere.safetensors").code == 1
    renamed = tmp_path / "heads.bin"
    renamed.symlink_to(stt_folder / "model.safetensors")
    assert call("--vad-heads", renamed).out.count('"pause"') == both.out.count('"pause"')
    refused = moshi_cli("transcribe", talk, "--model", stt_folder, "--vad-heads", renamed, "--codec", "mlx")
    assert "this model has voice activity heads of its own" in refused.err


def test_the_microphone_is_transcribed_until_ctrl_c(
    sound_card: SoundCard, stt_folder: Path, tmp_path: Path
) -> None:
    live = Chat(
        "--live", "--model", stt_folder, "--codec", "mlx", "--input", "virtmic", "--json", tmp_path / "live.txt",
        command="transcribe",
    )  # fmt: skip
    try:
        live.wait_for(is_ready)
        sound_card.speak(0.1 * np.random.RandomState(0).standard_normal(96_000).astype(np.float32))
        live.wait_for(lambda events: sum(event["event"] == "word" for event in events) > 3)
        assert live.end() == 130, live.errors
    finally:
        live.end()
    end, words = live.events[-1], [event for event in live.events if event["event"] == "word"]
    assert end["event"] == "end"
    assert end["text"] == " ".join(event["word"] for event in words)
    assert [event["start"] for event in words] == sorted(event["start"] for event in words)
    assert (tmp_path / "live.txt").read_text().split() == end["text"].split()
