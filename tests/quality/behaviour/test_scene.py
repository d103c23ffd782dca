"""Scenes in folders: ours, and those of Full-Duplex-Bench as they are published."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moshi_mlx.audio.writer import AudioWriter
from moshi_mlx.errors import DataError
from moshi_mlx.quality.behaviour.scene import TASKS, Scene, read_scene, read_scenes, write_scene

PCM = np.sin(np.arange(48_000) / 20).astype(np.float32) / 4  # two seconds

FULL = {
    "pause_handling": Scene("pause_handling", "1", pauses=((0.5, 0.9), (1.0, 1.25)), turn_end=1.5, noise_db=10),
    "backchannel": Scene("backchannel", "2", human=(0.25, 0.75), echo_db=-20, echo_delay=0.05),
    "smooth_turn_taking": Scene("smooth_turn_taking", "3", turn_end=1.25, answers=(("four", "4"), ("Paris",))),
    "user_interruption": Scene(
        "user_interruption", "4", interruption=(0.5, 1.5), context="What is it?", interrupt="No, stop.", answers=()
    ),
    "user_backchannel": Scene("user_backchannel", "5", interruption=(0.5, 1.5), context="Go on.", interrupt="Ah."),
    "talking_to_other": Scene("talking_to_other", "6"),
    "background_speech": Scene("background_speech", "7", interruption=(0.5, 1.5)),
    "silence": Scene("silence", "eight"),
}


@pytest.mark.parametrize("task", TASKS)
def test_a_scene_is_read_as_it_was_written(task: str, tmp_path: Path) -> None:
    written = write_scene(FULL[task], tmp_path / FULL[task].id, PCM)
    read = read_scene(tmp_path / FULL[task].id)
    assert read == written
    assert (read.task, read.answers) == (task, FULL[task].answers)
    np.testing.assert_allclose(read.pcm(), PCM, atol=2**-15)


def publish(folder: Path, name: str, content: Any) -> Path:
    folder.mkdir(parents=True)
    with AudioWriter(folder / "input.wav") as file:
        file.write(PCM)
    if name:
        (folder / name).write_text(json.dumps(content))
    return folder


def test_folders_of_the_benchmark_are_read_as_they_are_published(tmp_path: Path) -> None:
    span = {"timestamp": [0.5, 1.25]}
    pause = publish(tmp_path / "synthetic_pause_handling" / "1", "pause.json", [{"text": "[PAUSE]", **span}])
    turn = publish(tmp_path / "candor_turn_taking" / "1", "turn_taking.json", [{"text": "[TURN-TAKING]", **span}])
    words = {"context": "Any books?", "interrupt": "No, films."}
    interrupt = publish(tmp_path / "synthetic_user_interruption" / "1", "interrupt.json", [{**words, **span}])
    backchannel = publish(tmp_path / "icc_backchannel" / "0", "", None)
    other = {"context_text": "Any books?", "current_turn_text": "Yes, mother!", "timestamps": [0.5, 1.25]}
    overlap = publish(tmp_path / "talking_to_other" / "1", "metadata.json", other)
    interrupted = publish(tmp_path / "user_interruption" / "2", "metadata.json", other)
    (tmp_path / "icc_gt_distribution.json").write_text('{"0": [0.5, 0.25, 0.25], "1": [1]}')

    assert read_scene(pause).pauses == ((0.5, 1.25),)
    assert read_scene(turn).turn_end == 0.5, "as the script has it: where the mark begins"
    found = read_scene(interrupt)
    assert (found.interruption, found.context, found.interrupt) == ((0.5, 1.25), "Any books?", "No, films.")
    assert read_scene(interrupted).interruption == (0.5, 1.25)
    assert read_scene(overlap).task == "talking_to_other"

    scenes = read_scenes(tmp_path)
    assert [(one.task, one.id) for one in scenes] == [
        ("pause_handling", "1"),
        ("backchannel", "0"),
        ("smooth_turn_taking", "1"),
        ("user_interruption", "1"),
        ("user_interruption", "2"),
        ("talking_to_other", "1"),
    ]
    assert next(one for one in scenes if one.folder == backchannel).human == (0.5, 0.25, 0.25)


def test_ids_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for name in ("10", "9", "b", "a"):
        write_scene(Scene("silence", name), tmp_path / name, PCM)
    assert [one.id for one in read_scenes(tmp_path)] == ["9", "10", "a", "b"]


def test_a_condition_is_named(tmp_path: Path) -> None:
    assert Scene("silence", "1").condition == "clean"
    assert Scene("silence", "1", noise_db=10).condition == "noise 10 dB"
    assert Scene("silence", "1", noise_db=-5, echo_db=-20).condition == "noise -5 dB, echo -20 dB"


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("scene.json", {"task": "dance"}, "there is no task 'dance'"),
        ("scene.json", {"task": "silence", "sound": 1}, "field 'sound' is 1; this is not supported"),
        ("scene.json", {"task": "silence", "answers": ["yes", 3]}, "answers hold 3"),
        ("scene.json", {"task": "silence", "answers": {"yes": 1}}, "where a list was expected"),
        ("scene.json", {"task": "silence", "human": [0.5, None]}, "numbers expected"),
        ("scene.json", {"task": "silence", "human": []}, "human is a histogram"),
        ("scene.json", {"task": "silence", "human": [0.0, 0]}, "human is a histogram"),
        ("scene.json", {"task": "silence", "human": [1, -1]}, "human is a histogram"),
        ("scene.json", {"task": "silence", "noise_db": "loud"}, "it must be a number"),
        ("scene.json", {"task": "user_interruption"}, "needs the time of the interruption"),
        ("scene.json", {"task": "smooth_turn_taking"}, "needs the end of the user's turn"),
        ("scene.json", {"task": "silence", "interruption": [2, 1]}, "[start, end] in seconds expected"),
        ("scene.json", {"task": "silence", "interruption": [1, 1e400]}, "numbers expected"),
        ("scene.json", {}, "names no task"),
        ("", None, "names no task"),
        ("pause.json", {"timestamp": [0, 1]}, "a list of groups"),
        ("turn_taking.json", [], "is an empty list"),
        ("interrupt.json", [{"timestamp": [0.5]}], "[start, end] in seconds expected"),
        ("interrupt.json", [{"context": "a"}], "numbers expected"),
        ("metadata.json", [1], "is not a JSON object"),
    ],
)
def test_what_is_wrong_with_a_folder_is_one_line(name: str, content: Any, says: str, tmp_path: Path) -> None:
    folder = publish(tmp_path / "1", name, content)
    with pytest.raises(DataError) as error:
        read_scene(folder)
    assert says in str(error.value)
    assert str(folder) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_scene_that_cannot_be_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a time is 3 s, but its audio ends at 2 s"):
        write_scene(Scene("pause_handling", "1", pauses=((1.0, 3.0),)), tmp_path / "1", PCM)
    with pytest.raises(DataError, match="into a folder of that name"):
        write_scene(Scene("silence", "1"), tmp_path / "2", PCM)
    with pytest.raises(DataError, match="cannot be one"):
        Scene("silence", "../1")


def test_folders_without_scenes_say_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no input\.wav"):
        read_scene(tmp_path)
    with pytest.raises(DataError, match="holds no scenes"):
        read_scenes(tmp_path)
    with pytest.raises(DataError, match="is not a folder"):
        read_scenes(tmp_path / "none")
    for parent in ("a", "b"):
        write_scene(Scene("silence", "1"), tmp_path / parent / "1", PCM)
    with pytest.raises(DataError, match=r"are both scene 1 of silence"):
        read_scenes(tmp_path)
