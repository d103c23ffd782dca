"""Recordings and their words: the forms they come in, and one line for each thing that is wrong with them."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from moshi_mlx.errors import DataError, MoshiError
from moshi_mlx.finetune.data import find_replay, find_sources, named_twice, no_words
from tests.finetune.dataset import kept_conversation, stereo_set


def test_a_list_names_files_beside_it(tmp_path: Path) -> None:
    (source,) = find_sources(str(stereo_set(tmp_path)))
    assert [recording.moshi.name for recording in source.recordings] == ["0.wav", "1.wav"]
    assert source.recordings[0].seconds == 3.0
    assert [word.text for word in source.recordings[0].words()] == ["good", "you", "morning"]
    assert all(recording.stereo for recording in source.recordings)
    assert not no_words(source.recordings)


def test_a_folder_holds_lists_or_stereo_files_or_conversations(tmp_path: Path) -> None:
    stereo_set(tmp_path / "lists" / "deeper")
    assert len(find_sources(str(tmp_path / "lists"))[0].recordings) == 2
    stereo_set(tmp_path / "files").unlink()
    assert len(find_sources(str(tmp_path / "files"))[0].recordings) == 2
    kept_conversation(tmp_path / "kept" / "monday")
    kept_conversation(tmp_path / "kept" / "tuesday")
    kept = find_sources(str(tmp_path / "kept"))[0].recordings
    assert [recording.user.parent.name for recording in kept] == ["monday", "tuesday"]
    assert not kept[0].stereo


def test_words_of_a_kept_conversation_are_pieces_joined_and_late_by_the_delay_of_its_sound(tmp_path: Path) -> None:
    kept_conversation(tmp_path / "kept")
    (recording,) = find_sources(str(tmp_path), lag=1)[0].recordings
    words = [(word.text, round(word.begin, 2)) for word in recording.words()]
    assert words == [("good", 0.48), ("morning", 0.56)]


def test_several_places_have_weights(tmp_path: Path) -> None:
    one, two = stereo_set(tmp_path / "one"), stereo_set(tmp_path / "two")
    sources = find_sources(f"{one}:3,{two}")
    assert [(source.place, source.weight) for source in sources] == [(str(one), 3.0), (str(two), 1.0)]
    with pytest.raises(DataError, match="named twice"):
        find_sources(f"{one},{one}:2")
    with pytest.raises(DataError, match="weight 0 must be a number above 0"):
        find_sources(f"{one}:0")


def test_a_recording_that_is_there_twice_is_told_of(tmp_path: Path) -> None:
    path = stereo_set(tmp_path)
    assert not named_twice(find_sources(str(path)))
    with path.open("a") as file:
        file.write(json.dumps({"path": "0.wav", "duration": 3.0}) + "\n")
    note = named_twice(find_sources(str(path)))
    assert str(tmp_path / "0.wav") in note
    assert "1.wav" not in note
    both = [*find_sources(str(path)), *find_sources(str(tmp_path))]
    assert "1.wav" in named_twice(both), "also where places hold the same"


def test_what_is_replayed_has_shares_of_all_windows(tmp_path: Path) -> None:
    new, old, older = (stereo_set(tmp_path / name) for name in ("new", "old", "older"))
    learned = find_sources(str(new))
    assert [source.weight for source in find_replay(str(old), learned)] == [0.5]
    assert [source.weight for source in find_replay(f"{old}:0.2,{older}:0.3", learned)] == [0.2, 0.3]
    for text in (f"{old}:1", f"{old},{older}"):
        with pytest.raises(DataError, match="would be 100% of all windows; give shares of less than 1"):
            find_replay(text, learned)
    with pytest.raises(DataError, match="is both learned and replayed"):
        find_replay(str(new), learned)


def spoil_words(change: Callable[[dict], object]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        words = json.loads((folder / "1.json").read_text())
        change(words)
        (folder / "1.json").write_text(json.dumps(words))

    return spoil


def spoil_line(line: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "list.jsonl").write_text(line + "\n")


BAD = {
    "words missing": (
        lambda folder: (folder / "1.json").unlink(),
        "1.wav has no words: 1.json beside it expected",
    ),
    "words no JSON": (lambda folder: (folder / "1.json").write_text("["), "1.json is not JSON"),
    "no alignments": (spoil_words(dict.clear), "1.json has no list of words (alignments)"),
    "unsorted": (
        spoil_words(lambda words: words["alignments"].reverse()),
        "1.json: word 2 ('you') begins at 0.70 s, before the word in front of it (1.00 s)",
    ),
    "no time": (
        spoil_words(lambda words: words["alignments"].insert(1, ["so", None, "SPEAKER_MAIN"])),
        "1.json: word 2 is ['so', None, 'SPEAKER_MAIN']",
    ),
    "NaN": (
        spoil_words(lambda words: words["alignments"][0].__setitem__(1, [float("nan"), 1])),
        "1.json: word 1 is ['good', [nan, 1]",
    ),
    "eternity": (
        spoil_words(lambda words: words["alignments"].append(["so", [1e300, 1e301], "SPEAKER_MAIN"])),
        "1.json: word 4 is ['so', [1e+300, 1e+301]",
    ),
    "sound missing": (lambda folder: (folder / "1.wav").unlink(), "line 2 names"),
    "no path": (spoil_line('{"duration": 3}'), "line 1 is '{\"duration\": 3}'"),
    "no duration": (spoil_line('{"path": "0.wav", "duration": -1}'), "line 1 is"),
    "no line": (spoil_line("0.wav"), "line 1 is '0.wav'"),
    "empty": (spoil_line(""), "holds no recording that can be trained on"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_told_in_one_line_with_file_and_place(name: str, tmp_path: Path) -> None:
    spoil, complaint = BAD[name]
    path = stereo_set(tmp_path)
    find_sources(str(path))
    spoil(tmp_path)
    with pytest.raises(DataError, match=re.escape(complaint)) as error:
        find_sources(str(path))
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


def test_bad_recordings_can_be_left_out_and_are_listed(tmp_path: Path) -> None:
    path = stereo_set(tmp_path, (2.0, 2.0, 2.0))
    (tmp_path / "1.json").unlink()
    (tmp_path / "2.wav").unlink()
    left_out: list[MoshiError] = []
    (source,) = find_sources(str(path), left_out.append)
    assert [recording.moshi.name for recording in source.recordings] == ["0.wav"]
    assert len(left_out) == 2


def test_places_that_are_not_there_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist; give a list"):
        find_sources(str(tmp_path / "nowhere"))
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(DataError, match="neither a list"):
        find_sources(str(tmp_path / "notes.txt"))
    kept_conversation(tmp_path / "kept").joinpath("user.wav").unlink()
    with pytest.raises(DataError, match=r"has moshi\.wav but no user\.wav"):
        find_sources(str(tmp_path / "kept"))


def test_a_recording_without_words_is_told_of(tmp_path: Path) -> None:
    path = stereo_set(tmp_path)
    (tmp_path / "0.json").write_text('{"alignments": []}')
    assert "0.wav" in no_words(find_sources(str(path))[0].recordings)
