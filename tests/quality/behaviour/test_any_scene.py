"""Whatever the files of a scene or an answer hold, they are read, or refused in one line."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moshi_mlx.errors import DataError
from moshi_mlx.quality.behaviour.answer import Answer, read_words, write_answer
from moshi_mlx.quality.behaviour.measures import measure
from moshi_mlx.quality.behaviour.scene import Scene, read_scene, write_scene
from tests.anything import changed, json_values, one_line

OURS = {
    "task": "pause_handling",
    "pauses": [[0.25, 0.5]],
    "turn_end": 0.5,
    "interruption": [0.5, 0.75],
    "context": "Go on.",
    "interrupt": "Stop.",
    "answers": [["four", "4"], "Paris"],
    "noise_db": 10,
    "echo_db": -20,
    "echo_delay": 0.1,
    "human": [0.5, 0.5],
}
PUBLISHED = {
    "pause.json": [{"text": "[PAUSE]", "timestamp": [0.25, 0.5]}],
    "turn_taking.json": [{"text": "[TURN-TAKING]", "timestamp": [0.25, 0.5]}],
    "interrupt.json": [{"context": "Go on.", "interrupt": "Stop.", "timestamp": [0.25, 0.5]}],
    "metadata.json": {"context_text": "", "current_turn_text": "", "timestamps": [0.25, 0.5]},
}
CHUNK = {"text": " word", "timestamp": [0.25, 0.5]}
SILENT = np.zeros(24_000, np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes") / "talking_to_other" / "1"
    scene = write_scene(Scene("talking_to_other", "1"), folder, SILENT)
    write_answer(scene, folder, SILENT, [])
    (folder / "scene.json").unlink()
    return folder


def read(folder: Path, name: str, content: Any) -> None:
    """Read a scene with such a file; judge an answer to it if there is one."""
    path = folder / name
    path.write_text(json.dumps(content))
    try:
        scene = read_scene(folder)
        measure(scene, Answer(SILENT, ()), [(0.1, 0.4)], [(0.3, 0.9)])
    except DataError as error:
        one_line(error)
    finally:
        path.unlink()


@given(content=st.one_of(changed(OURS), json_values))
def test_any_scene_of_ours(folder: Path, content: Any) -> None:
    read(folder, "scene.json", content)


@given(name=st.sampled_from(list(PUBLISHED)), content=st.data())
def test_any_file_of_a_task(folder: Path, name: str, content: st.DataObject) -> None:
    plain = PUBLISHED[name]
    first = plain[0] if isinstance(plain, list) else plain
    kinds = st.one_of(changed(first), json_values)
    read(folder, name, content.draw(st.one_of(json_values, kinds, st.lists(kinds, max_size=2))))


@given(content=st.one_of(json_values, st.lists(st.one_of(changed(CHUNK), json_values), max_size=3)))
def test_any_words(folder: Path, content: Any) -> None:
    path = folder / "any.json"
    path.write_text(json.dumps({"chunks": content}))
    try:
        words = read_words(path)
        measure(Scene("backchannel", "1", human=(0.5, 0.5)), Answer(SILENT, words), [], [(0.3, 0.9)])
        measure(Scene("smooth_turn_taking", "1", turn_end=0.5), Answer(SILENT, words), [], [(0.3, 0.9)])
    except DataError as error:
        one_line(error)
