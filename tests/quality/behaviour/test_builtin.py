"""The builtin scenes: 200 from a seed, the same bytes again, made when they are wanted."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from moshi_mlx.checkpoint import nano
from moshi_mlx.errors import DataError
from moshi_mlx.frames import SAMPLE_RATE
from moshi_mlx.quality.behaviour import builtin
from moshi_mlx.quality.behaviour.builtin import COUNTS, builtin_scenes, scene_names
from moshi_mlx.quality.behaviour.builtin_texts import HESITATIONS, QUESTIONS
from moshi_mlx.quality.behaviour.scene import TASKS, Scene
from moshi_mlx.quality.transcription import normalized
from tests.quality.behaviour.voices import needs_synthesizers

FEW = dict.fromkeys(COUNTS, 1) | {"smooth_turn_taking": 7, "silence": 2}


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builtin, "COUNTS", FEW)


def content(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_there_are_200_of_all_tasks() -> None:
    names = scene_names()
    assert len(set(names)) == len(names) == 200
    counts = Counter(task for task, _ in names)
    assert counts == COUNTS
    assert set(counts) <= set(TASKS)


def test_questions_are_nanos_and_its_answers_are_right() -> None:
    answers = nano.questions()
    for question, wordings in QUESTIONS.items():
        said = " ".join(normalized(answers[question]))
        assert any(" ".join(normalized(wording)) in said for wording in wordings), question
    assert all(" ".join(parts) in QUESTIONS and all(parts) for parts in HESITATIONS)


@needs_synthesizers
@pytest.mark.usefixtures("few")
def test_the_same_bytes_again_and_only_what_is_missing(tmp_path: Path) -> None:
    scenes = builtin_scenes(tmp_path / "one")
    assert Counter(scene.task for scene in scenes) == FEW
    first = content(tmp_path / "one")
    gone = tmp_path / "one" / "silence" / "2"  # in which noise is drawn
    shutil.rmtree(gone)
    kept = tmp_path / "one" / "smooth_turn_taking" / "1" / "input.wav"
    kept.write_bytes(b"mine")
    assert len(builtin_scenes(tmp_path / "one")) == len(scenes)
    assert kept.read_bytes() == b"mine", "what is there is not made again"
    shutil.rmtree(kept.parent)
    builtin_scenes(tmp_path / "one")
    assert content(tmp_path / "one") == first


@needs_synthesizers
@pytest.mark.usefixtures("few")
def test_users_speak_when_the_scene_says(tmp_path: Path) -> None:
    scenes = {(scene.task, scene.id): scene for scene in builtin_scenes(tmp_path)}

    def is_loud(scene: Scene, begin: float, end: float) -> bool:
        part = scene.pcm()[round(begin * SAMPLE_RATE) : round(end * SAMPLE_RATE)]
        return float(np.abs(part).max()) > 0.05

    turn = scenes["smooth_turn_taking", "1"]
    assert turn.turn_end
    assert turn.answers
    assert is_loud(turn, turn.turn_end - 0.3, turn.turn_end)
    assert not is_loud(turn, turn.turn_end + 0.01, len(turn.pcm()) / SAMPLE_RATE)
    both = scenes["smooth_turn_taking", "7"]
    assert both.answers
    assert len(both.answers) == 2
    hesitation = scenes["pause_handling", "1"]
    ((begin, end),) = hesitation.pauses
    assert end - begin >= 0.5
    assert not is_loud(hesitation, begin + 0.01, end - 0.01)
    assert is_loud(hesitation, end, end + 0.3)
    assert len(hesitation.pcm()) / SAMPLE_RATE == pytest.approx(hesitation.turn_end, abs=0.01)
    broken_in = scenes["user_interruption", "1"]
    assert broken_in.interruption
    assert is_loud(broken_in, *broken_in.interruption)
    assert not is_loud(broken_in, broken_in.interruption[0] - 0.5, broken_in.interruption[0] - 0.01)
    assert not np.any(scenes["silence", "1"].pcm())


def test_a_missing_synthesizer_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError, match=r"not installed: flite, espeak-ng \(brew install") as told:
        builtin_scenes(tmp_path / "scenes")
    assert "\n" not in str(told.value)
    assert not (tmp_path / "scenes").exists()
