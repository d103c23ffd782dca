"""`moshi-mlx run`: both voices in a file, words with their times, whole folders, and what Ctrl-C leaves."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from moshi_mlx.audio.files import read_audio
from moshi_mlx.conversation.transcript import Transcript
from moshi_mlx.runtime.reply import Reply
from tests.cli.conftest import Done

pytestmark = pytest.mark.slow

Cli = Callable[..., Done]
QUICK = ("--codec", "mlx", "--seed", 7, "--lead", 0.16, "--tail", 0.16)


@pytest.fixture
def recordings(tmp_path: Path, question: Path) -> Path:
    """A folder of two short recordings, and a note."""
    folder = tmp_path / "recordings"
    folder.mkdir()
    pcm, rate = soundfile.read(question)
    for name, seconds in (("one.wav", 0.4), ("two.flac", 0.8)):
        soundfile.write(folder / name, pcm[: int(seconds * rate)], rate)
    (folder / "notes.txt").write_text("not a recording")
    return folder


@pytest.mark.parametrize("name", ["both.wav", "both.flac", "both.ogg"])
def test_both_voices_are_in_one_file_at_the_same_time(
    moshi_cli: Cli, recordings: Path, tiny_folder: Path, tmp_path: Path, name: str
) -> None:
    for words in (("answer.wav",), (name, "--stereo")):
        done = moshi_cli("run", recordings / "one.wav", tmp_path / words[0], *words[1:], "-m", tiny_folder, *QUICK)
        assert done.code == 0
    answer, _ = soundfile.read(tmp_path / "answer.wav")
    both, rate = soundfile.read(tmp_path / name)
    assert (both.shape, rate) == ((len(answer), 2), 24_000)
    heard = read_audio(recordings / "one.wav").pcm
    began = 2 * 1920  # the lead
    exact = name != "both.ogg"  # which changes samples
    assert np.abs(both[began : began + len(heard), 0] - heard).max() < (1e-4 if exact else 0.2)
    assert np.abs(both[:began, 0]).max() < (1e-9 if exact else 0.1)
    assert np.abs(both[:, 1] - answer).max() < (1e-9 if exact else 0.5)


@pytest.mark.parametrize("ending", ["srt", "vtt", "json", "txt"])
def test_words_are_written_with_their_times(
    moshi_cli: Cli, recordings: Path, tiny_folder: Path, tmp_path: Path, ending: str
) -> None:
    written = tmp_path / f"words.{ending}"
    done = moshi_cli("run", recordings / "two.flac", "-m", tiny_folder, "--transcript", written, *QUICK)
    assert done.code == 0
    assert f"words in {written}\n" in done.err
    said, text = done.out.split(), written.read_text()
    if ending == "json":
        found = json.loads(text)
        assert [one["word"] for one in found["words"]] == said
        assert all(0 <= one["start"] <= one["end"] <= found["seconds"] for one in found["words"])
    else:
        assert [word for word in text.split() if word in said] == said
    assert ("-->" in text) == (ending in ("srt", "vtt"))


def test_pieces_become_words_that_end_where_the_next_begins() -> None:
    transcript = Transcript()
    for time, text in ((0.08, " Hel"), (0.16, "lo"), (0.4, ","), (0.48, " you"), (4.0, " there")):
        transcript.write(Reply(None, text, time))
    found = transcript.words(4.5).words
    assert [(word.text, word.start, word.end) for word in found] == [
        ("Hello,", 0.08, 0.48),
        ("you", 0.48, 1.48),
        ("there", 4.0, 4.5),
    ]


def test_every_recording_of_a_folder_is_answered_as_if_it_were_alone(
    moshi_cli: Cli, recordings: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    words = ("-m", tiny_folder, *QUICK)
    into = tmp_path / "new" / "answers"
    done = moshi_cli("run", recordings, into, "--transcript", "srt", *words)
    assert done.code == 0
    assert sorted(os.listdir(into)) == ["one.srt", "one.wav", "two.srt", "two.wav"]
    alone = moshi_cli("run", recordings / "two.flac", tmp_path / "two.wav", *words)
    assert (into / "two.wav").read_bytes() == (tmp_path / "two.wav").read_bytes()
    assert done.out.splitlines()[1] == f"{recordings / 'two.flac'}: {alone.out.strip()}"


def test_recordings_answered_together_are_answered_as_alone(
    moshi_cli: Cli, recordings: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    shutil.copy(recordings / "one.wav", recordings / "three.wav")
    (recordings / "broken.wav").write_text("nothing")
    words = ("-m", tiny_folder, "--json", *QUICK)
    alone = moshi_cli("run", recordings, tmp_path / "alone", *words)
    together = moshi_cli("run", recordings, tmp_path / "together", "--batch", 2, *words)
    assert (alone.code, together.code) == (1, 1)

    def events(done: Done, name: str) -> list[dict]:
        found = [json.loads(line) for line in done.out.splitlines()]
        return [one for one in found if Path(one["file"]).name == name]

    for name in ("one.wav", "two.flac", "three.wav"):
        first, second = events(alone, name), events(together, name)
        said = [[one for one in each if one["event"] == "text"] for each in (first, second)]
        assert said[0] == said[1]
        same = ("text", "interrupted", "seed", "output_seconds")
        assert [first[-1][key] for key in same] == [second[-1][key] for key in same]
        files = (tmp_path / into / f"{Path(name).stem}.wav" for into in ("alone", "together"))
        answers = [soundfile.read(file)[0] for file in files]
        assert len(answers[0]) == len(answers[1])
        assert np.abs(answers[0] - answers[1]).max() < 1e-3
    assert events(together, "two.flac")[-1]["frames"] == events(alone, "two.flac")[-1]["frames"]


def test_what_cannot_be_read_is_told_and_the_others_are_answered(
    moshi_cli: Cli, recordings: Path, tiny_folder: Path
) -> None:
    (recordings / "broken.wav").write_text("nothing")
    done = moshi_cli("run", recordings, "-m", tiny_folder, "--json", *QUICK)
    assert done.code == 1
    assert f"error: {recordings / 'broken.wav'} cannot be read as audio" in done.err
    events = [json.loads(line) for line in done.out.splitlines()]
    ends = [Path(event["file"]).name for event in events if event["event"] == "end"]
    assert ends == ["one.wav", "two.flac"]
    assert all(event["file"] for event in events if event["event"] == "text")


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["one.wav", "--stereo"], 2, "--stereo puts both voices into OUT"),
        (["one.wav", "--transcript", "words.doc"], 2, "srt, vtt, json, txt expected"),
        (["one.wav", "--transcript", "srt"], 2, "name the file, such as words.srt"),
        (["one.wav", "--transcript", "no/words.srt"], 1, "no does not exist"),
        (["one.wav", "--transcript", "one.wav"], 1, "one.wav is the recording itself"),
        ([".", "--stereo"], 2, "name a folder"),
        ([".", "-"], 1, "2 recordings cannot all be answered in -: name a folder"),
        ([".", "one.wav"], 1, "2 recordings cannot all be answered in one.wav"),
        ([".", "."], 1, "one.wav is a recording itself: name another folder"),
        ([".", "../recordings"], 1, "one.wav is a recording itself: name another folder"),
        ([".", "--transcript", "words.srt"], 2, "for a folder give the format alone, srt"),
        (["one.wav", "--batch", "2"], 2, "one.wav is none"),
        (["empty"], 1, "the folder empty holds no recordings"),
    ],
    ids=lambda one: " ".join(one) if isinstance(one, list) else None,
)
def test_what_contradicts_itself_is_refused_before_a_model_is_loaded(
    moshi_cli: Cli, recordings: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], code: int, says: str
) -> None:
    monkeypatch.chdir(recordings)
    (recordings / "empty").mkdir()
    before = sorted(os.listdir(recordings))
    done = moshi_cli("run", *words, "-m", "/no/model")
    assert (done.code, done.out) == (code, "")
    assert says in " ".join(done.err.split())
    assert sorted(os.listdir(recordings)) == before


def test_recordings_of_one_name_are_not_answered_in_one_file(
    moshi_cli: Cli, recordings: Path, tmp_path: Path
) -> None:
    shutil.copy(recordings / "two.flac", recordings / "one.flac")
    done = moshi_cli("run", recordings, tmp_path / "answers", "-m", "/no/model")
    assert done.code == 1
    assert "two recordings would be answered in" in done.err


def test_ctrl_c_in_a_folder_says_what_is_done_and_what_is_not(
    recordings: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "moshi_mlx", "run", recordings, tmp_path / "out", "--model", tiny_folder]
    command += ["--codec", "mlx", "--tail", "3600", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
        assert program.stdout
        for _ in range(5):  # it is talking
            assert json.loads(program.stdout.readline())["event"] == "text"
        program.send_signal(signal.SIGINT)
        _, err = program.communicate(timeout=120)
    assert program.returncode == 130
    assert re.search(r"interrupted: the last 3\d\d\d\.\d s were not answered; what was said before is kept", err)
    assert err.splitlines()[-1] == "interrupted: 0 of 2 recordings are answered, 2 are not"
    assert os.listdir(tmp_path / "out") == ["one.wav"]
