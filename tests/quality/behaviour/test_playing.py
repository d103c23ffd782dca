"""Scenes played to a small random model: what it hears, and that batches change nothing."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from moshi_mlx.audio.file_stream import FileSource
from moshi_mlx.frames import FRAME_SAMPLES, SAMPLE_RATE
from moshi_mlx.quality.behaviour.answer import read_answer
from moshi_mlx.quality.behaviour.playing import Echo, Listening, play_scenes, sample_folder, seed_of, unanswered
from moshi_mlx.quality.behaviour.scene import Scene, write_scene
from moshi_mlx.runtime.engine import converse_together
from moshi_mlx.runtime.moshi import Moshi
from moshi_mlx.runtime.reply import Reply
from moshi_mlx.runtime.stages import RESET, Control


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.RandomState(seed).standard_normal(round(seconds * SAMPLE_RATE))).astype(np.float32)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> list[Scene]:
    root = tmp_path_factory.mktemp("scenes")
    made = [
        Scene("silence", "1"),
        Scene("smooth_turn_taking", "1", turn_end=0.2),
        Scene("silence", "2", echo_db=-6),
    ]
    return [
        write_scene(scene, sample_folder(root, scene), noise(seconds, number))
        for number, (scene, seconds) in enumerate(zip(made, (0.9, 0.64, 0.7), strict=True))
    ]


def test_batches_of_any_size_give_the_same_answers(tiny_moshi: Moshi, scenes: list[Scene], tmp_path: Path) -> None:
    counted: list[int] = []
    play_scenes(tiny_moshi, scenes, tmp_path / "together", 3, advance=counted.append)
    play_scenes(tiny_moshi, scenes[::-1], tmp_path / "alone", 1)
    assert counted == [1, 1, 1]
    for scene in scenes:
        together, alone = (read_answer(sample_folder(tmp_path / name, scene)) for name in ("together", "alone"))
        assert together.words == alone.words
        np.testing.assert_allclose(together.pcm, alone.pcm, atol=1e-3)
        assert together.seconds == len(scene.pcm()) / SAMPLE_RATE
        assert np.abs(together.pcm).max() > 0.01
    assert unanswered(scenes, tmp_path / "alone") == []
    (sample_folder(tmp_path / "alone", scenes[1]) / "output.json").unlink()
    assert unanswered(scenes, tmp_path / "alone") == [scenes[1]]


def test_scenes_have_seeds_of_their_own(tiny_moshi: Moshi, tmp_path: Path) -> None:
    pair = [write_scene(Scene("silence", name), tmp_path / name, noise(0.4)) for name in "12"]
    play_scenes(tiny_moshi, pair, tmp_path / "answers", 2)
    one, two = (read_answer(sample_folder(tmp_path / "answers", scene)).pcm for scene in pair)
    assert np.abs(one - two).max() > 0.01
    seeds = {seed_of(Scene("silence", str(number)), seed) for number in range(50) for seed in (0, 1)}
    assert len(seeds) == 100
    assert seed_of(Scene("silence", "1"), 3) == seed_of(Scene("silence", "1"), 0) + 3


class Remembering:
    """A source that remembers what it gave."""

    def __init__(self, source: Echo) -> None:
        self._source, self.frames = source, list[np.ndarray]()

    def __iter__(self) -> Iterator[np.ndarray | Control]:
        for frame in self._source:
            assert isinstance(frame, np.ndarray)
            self.frames.append(frame)
            yield frame

    def close(self) -> None:
        self._source.close()


@pytest.mark.parametrize("delay", [0.0, 0.1, 0.25])
def test_a_model_hears_its_own_voice_later_and_weaker(tiny_moshi: Moshi, delay: float) -> None:
    user = noise(1.2)
    listening = Listening(len(user))
    source = Remembering(listening.echoing(FileSource(user, 0, 0), -20, delay))
    with tiny_moshi.session(1) as session:
        converse_together({session: (source, listening)})
    late = max(FRAME_SAMPLES, round(delay * SAMPLE_RATE))
    heard = np.concatenate(source.frames[1:])
    np.testing.assert_array_equal(heard[:late], user[:late])
    expected = user[late:] + 0.1 * listening.pcm[:-late]
    np.testing.assert_allclose(heard[late : len(user)], expected, atol=1e-7)
    assert np.abs(listening.pcm).max() > 0.01


def test_a_loop_that_fails_does_not_leave_an_echo_waiting() -> None:
    source = Echo(FileSource(noise(1.0), 0, 0), -20, 0.1)
    frames = iter(source)
    next(frames)
    source.close()
    assert list(frames) == []


def test_what_happens_between_frames_passes_an_echo() -> None:
    class Resetting:
        def __iter__(self) -> Iterator[np.ndarray | Control]:
            yield np.zeros(FRAME_SAMPLES, np.float32)
            yield RESET

        def close(self) -> None: ...

    assert list(Echo(Resetting(), -20, 0.1))[1] is RESET


def test_the_voice_is_as_long_as_the_scene() -> None:
    listening = Listening(3000)
    assert not listening.pcm.any()
    listening.write(Reply(np.ones(FRAME_SAMPLES, np.float32), " hi", 0.0))
    listening.write(Reply(None, " late", 0.16))
    assert listening.pcm.sum() == FRAME_SAMPLES
    assert [word.text for word in listening.words] == ["hi"], "what is said behind the end is not in it"
