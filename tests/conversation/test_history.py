"""Conversations that are kept can be found and read again."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from moshi_mlx.conversation.draft import Draft, remove_drafts_of_the_dead
from moshi_mlx.conversation.history import ABOUT, find, history_folder, kept, new_folder
from moshi_mlx.conversation.recorder import Recorder
from moshi_mlx.conversation.turns import Turn
from moshi_mlx.errors import AudioFileError
from moshi_mlx.runtime.reply import Reply

TURNS = [Turn("user", 0.4, 2.2), Turn("moshi", 2.6, 5.0, "The capital of France is Paris.")]


def frame() -> np.ndarray:
    return np.full(1920, 0.1, np.float32)


def converse(recorder: Recorder | Draft, frames: int = 100) -> None:
    for _ in range(frames):
        recorder.add(frame(), Reply(frame(), "", 0.0))


def keep(folder: Path, started: str, turns: list[Turn] = TURNS) -> None:
    recorder = Recorder(folder, {"model": "nano", "started": started})
    converse(recorder)
    for turn in turns:
        recorder.turn(turn)
    recorder.close()


def test_a_conversation_is_kept_for_people_and_for_players(tmp_path: Path) -> None:
    keep(tmp_path / "talk", "2026-03-01T21:15:00+01:00")
    assert (tmp_path / "talk" / "transcript.txt").read_text() == (
        "Conversation of 2026-03-01 21:15 with nano, 0:08\n\n"
        "   0:00  you    (1.8 s)\n"
        "   0:02  Moshi  The capital of France is Paris.\n"
    )
    subtitles = (tmp_path / "talk" / "transcript.srt").read_text().splitlines()
    assert subtitles == ["1", "00:00:02,600 --> 00:00:05,000", "The capital of France is Paris."]
    lines = [json.loads(line) for line in (tmp_path / "talk" / "turns.jsonl").read_text().splitlines()]
    assert lines[0] == {"begin": 0.4, "end": 2.2, "speaker": "user", "text": ""}


def test_the_newest_is_first_and_can_be_found_by_number_name_and_path(tmp_path: Path) -> None:
    keep(tmp_path / "b", "2026-03-01T21:15:00+01:00")
    keep(tmp_path / "a", "2026-03-02T08:00:00+01:00", [])
    (tmp_path / "notes").mkdir()
    found, problems = kept(tmp_path)
    assert [one.folder.name for one in found] == ["a", "b"]
    assert problems == []
    assert found[1].title == "The capital of France is Paris."
    assert [find(which, tmp_path).folder.name for which in ("1", "2", "last", "b")] == ["a", "b", "a", "b"]
    assert find(str(tmp_path / "b"), tmp_path / "elsewhere").folder.name == "b"


@pytest.mark.parametrize("which", ["0", "3", "yesterday", "-1"])
def test_one_that_is_not_there_is_refused_with_what_there_is(tmp_path: Path, which: str) -> None:
    keep(tmp_path / "a", "2026-03-02T08:00:00+01:00")
    with pytest.raises(AudioFileError, match=r"no conversation '.*' \(1 to 1, or a folder\)"):
        find(which, tmp_path)


def test_a_damaged_one_is_named_and_hides_no_other(tmp_path: Path) -> None:
    keep(tmp_path / "a", "2026-03-02T08:00:00+01:00")
    keep(tmp_path / "b", "2026-03-02T08:00:00+01:00")
    (tmp_path / "b" / ABOUT).write_text("{")
    found, problems = kept(tmp_path)
    assert [one.folder.name for one in found] == ["a"]
    assert len(problems) == 1
    assert str(tmp_path / "b") in problems[0]


def test_the_turns_of_a_killed_program_can_be_read(tmp_path: Path) -> None:
    keep(tmp_path / "a", "2026-03-02T08:00:00+01:00")
    lines = (tmp_path / "a" / "turns.jsonl").read_text()
    (tmp_path / "a" / "turns.jsonl").write_text(lines[:-20])
    assert [turn.speaker for turn in find("last", tmp_path).turns] == ["user"]


@pytest.mark.parametrize(
    "line",
    [
        b'{"speaker": "user", "begin": 1.0, "end": 2.0, "text": "caf\xc3',
        b'{"speaker": "user", "begin": "soon", "end": 2.0}',
        b'{"speaker": "user", "begin": NaN, "end": 2.0}',
        b'{"speaker": "dog", "begin": 1.0, "end": 2.0}',
        b'{"speaker": "user", "begin": 1.0, "end": 2.0, "text": 5}',
    ],
)
def test_a_damaged_turn_is_left_out_and_hides_no_other(tmp_path: Path, line: bytes) -> None:
    keep(tmp_path / "a", "2026-03-02T08:00:00+01:00")
    with (tmp_path / "a" / "turns.jsonl").open("ab") as file:
        file.write(line)
    found, problems = kept(tmp_path)
    assert [len(one.turns) for one in found] == [2]
    assert problems == []
    assert "Paris" in found[0].transcript


def test_the_history_has_its_place_and_names_say_when_and_with_whom(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert history_folder() == Path("/data/moshi-mlx/conversations")
    assert new_folder("kyutai/moshika-mlx-q4@main").name.endswith(" moshika-mlx-q4")


def test_a_draft_is_thrown_away_unless_it_is_kept(tmp_path: Path) -> None:
    draft = Draft("nano", {"model": "nano"}, root=tmp_path)
    converse(draft)
    draft.close()
    assert list(tmp_path.iterdir()) == []


def test_a_draft_is_no_part_of_the_history(tmp_path: Path) -> None:
    keep(tmp_path / "a", "2026-03-02T08:00:00+01:00")
    draft = Draft("nano", {"model": "nano"}, root=tmp_path)
    converse(draft)
    assert [one.folder.name for one in kept(tmp_path)[0]] == ["a"]
    draft.close()


def test_a_draft_that_cannot_be_moved_does_not_end_the_talk(tmp_path: Path) -> None:
    draft = Draft("nano", {"model": "nano"}, root=tmp_path)
    converse(draft, 10)
    taken = draft._name / "file"  # pyright: ignore[reportPrivateUsage]
    taken.parent.mkdir()
    taken.touch()
    with pytest.raises(AudioFileError, match="cannot move"):
        draft.keep()
    converse(draft, 10)
    taken.unlink()
    folder = draft.keep()
    draft.close()
    assert len(soundfile.read(folder / "mix.wav")[0]) == 20 * 1920


def test_a_draft_that_is_kept_half_way_has_all_of_the_conversation(tmp_path: Path) -> None:
    draft = Draft("nano", {"model": "nano"}, root=tmp_path)
    converse(draft, 30)
    folder = draft.keep()
    assert draft.keep() == folder, "asked twice it is kept once"
    converse(draft, 30)
    draft.turn(TURNS[1])
    draft.close()
    assert [one.folder for one in kept(tmp_path)[0]] == [folder]
    assert len(soundfile.read(folder / "mix.wav")[0]) == 60 * 1920
    assert "Paris" in (folder / "transcript.txt").read_text()


def test_a_draft_that_cannot_be_written_does_not_end_the_talk(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    draft = Draft("nano", {}, root=tmp_path / "file")
    converse(draft)
    with pytest.raises(AudioFileError, match="cannot be kept"):
        draft.keep()
    draft.close()


def test_drafts_of_the_dead_are_removed_and_those_of_the_living_stay(tmp_path: Path) -> None:
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    for process in (dead.stdout.strip(), str(os.getppid())):
        (tmp_path / f".draft-{process}").mkdir()
    remove_drafts_of_the_dead(tmp_path)
    assert [folder.name for folder in tmp_path.iterdir()] == [f".draft-{os.getppid()}"]
