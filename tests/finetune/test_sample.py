"""What a model says while it learns, which it does not notice."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from moshi_mlx.audio.file_stream import FileSource
from moshi_mlx.checkpoint.adapter import with_adapter
from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.checkpoint.random_checkpoint import TINY_PERSONA, write_random_checkpoint
from moshi_mlx.finetune.batches import Data
from moshi_mlx.finetune.codes import Window
from moshi_mlx.finetune.data import find_sources
from moshi_mlx.finetune.folder import open_folder
from moshi_mlx.finetune.report import Report, Sample
from moshi_mlx.finetune.run import Run
from moshi_mlx.finetune.sample import Sampler
from moshi_mlx.finetune.settings import Settings
from moshi_mlx.runtime.moshi import assemble
from tests.finetune.dataset import stereo_set
from tests.finetune.test_run import SETTINGS, windows


def run(base: Path, folder: Path, **changes: object) -> tuple[list[Report], list[Sample]]:
    settings = Settings(**{**vars(SETTINGS), "steps": 2, **changes})
    checkpoint = Checkpoint.resolve(base)
    open_folder(folder, checkpoint, "data", settings, False)
    recording = find_sources(str(stereo_set(folder.parent / "set", (1.5,))))[0].recordings[0]
    window = Window(np.zeros((17, 13), np.int16), recording, 0.0)
    answers: list[Sample] = []
    sampler = Sampler(checkpoint, checkpoint.load_codec("mlx"), window, 0.4, seed=3, tell=answers.append)
    return list(Run(checkpoint, folder, settings, Data([windows(5)], [1.0]), sampler=sampler).train()), answers


@pytest.mark.parametrize("name", ["tiny_folder", "tiny_q4"])
def test_losses_are_the_same_with_samples_and_without(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    base = request.getfixturevalue(name)
    sampled, answers = run(base, tmp_path / "sampled", sample=1)
    plain, none = run(base, tmp_path / "plain")
    assert ([each.step for each in answers], none) == ([1, 2], [])
    assert [each.losses for each in sampled] == [each.losses for each in plain]


def same_as_loaded(base: Path, out: Path, answer: Sample, heard: np.ndarray) -> None:
    """Check a sample against what the base says with the adapter that was written."""
    moshi = assemble(with_adapter(Checkpoint.resolve(base), str(out)), "mlx")
    with moshi.session(seed=3) as session:
        replies = [session.step(frame) for frame in FileSource(heard[:9600, 1], 0, 0)]
    audio = np.concatenate([reply.audio for reply in replies if reply.audio is not None])
    sound, _ = soundfile.read(answer.file, dtype="float32")
    np.testing.assert_allclose(sound[:, 0], np.clip(audio, -1, 1), atol=1e-3)
    assert answer.text == "".join(reply.text for reply in replies).strip()


def test_a_sample_is_what_the_saved_adapter_answers(tiny_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    _, answers = run(tiny_folder, out, steps=3, sample=1, lr=0.1)
    assert [each.file.name for each in answers] == ["000001.wav", "000002.wav", "000003.wav"]
    sounds = [soundfile.read(each.file, dtype="float32")[0] for each in answers]
    assert all(sound.shape[1] == 2 for sound in sounds)
    heard, _ = soundfile.read(tmp_path / "set" / "0.wav", dtype="float32")
    np.testing.assert_allclose(sounds[0][: 5 * 1920, 1], heard[: 5 * 1920, 1], atol=1e-4)
    assert not np.array_equal(sounds[0][:, 0], sounds[-1][:, 0]), "it has learned something meanwhile"

    same_as_loaded(tiny_folder, out, answers[-1], heard)
    words = json.loads(answers[-1].file.with_suffix(".json").read_text())["alignments"]
    assert " ".join(word for word, _, _ in words) == " ".join(answers[-1].text.split())
    assert find_sources(str(out / "samples"))[0].recordings, "samples have the form of data"


def test_personaplex_answers_by_the_steps_of_a_conversation(tmp_path: Path) -> None:
    base = write_random_checkpoint(tmp_path / "base", TINY_PERSONA)
    _, (answer,) = run(base, tmp_path / "out", steps=1, sample=1)
    same_as_loaded(base, tmp_path / "out", answer, soundfile.read(tmp_path / "set" / "0.wav", dtype="float32")[0])
