"""Finding the loudspeaker in the microphone: is it there, how late, how much is left of it."""

import numpy as np
import pytest

from moshi_mlx.audio.echo.detector import EchoFinder
from moshi_mlx.frames import FRAME_SAMPLES
from tests.audio.echo_scene import Scene, make_scene, talker

MODEL, USER = talker(12, seed=5), talker(12, seed=6)


def look(scene: Scene, out: np.ndarray | None = None, finder: EchoFinder | None = None) -> EchoFinder:
    finder = finder or EchoFinder()
    for start in range(0, len(scene.near) - FRAME_SAMPLES + 1, FRAME_SAMPLES):
        part = slice(start, start + FRAME_SAMPLES)
        finder.look(scene.near[part], scene.far[part], (scene.near if out is None else out)[part])
    return finder


@pytest.mark.parametrize("voice", [None, USER], ids=["nobody speaks", "the user speaks"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_headphones_are_told_from_an_echo(voice: np.ndarray | None, seed: int) -> None:
    assert look(make_scene(MODEL, voice, coupling=0, seed=seed)).heard is False


@pytest.mark.parametrize("voice", [None, USER], ids=["nobody speaks", "the user speaks"])
@pytest.mark.parametrize("delay", [0.02, 0.12, 0.5])
def test_the_delay_is_found(voice: np.ndarray | None, delay: float) -> None:
    finder = look(make_scene(MODEL, voice, delay=delay))
    assert finder.heard is True
    assert finder.delay == pytest.approx(delay, abs=0.002)


def test_an_echo_far_below_the_user_is_heard() -> None:
    assert look(make_scene(MODEL, USER, near_to_echo=20)).heard is True


def test_a_faint_echo_is_heard_through_clocks_that_drift() -> None:
    assert look(make_scene(MODEL, coupling=0.03, drift_ppm=50)).heard is True


def test_nothing_is_said_before_something_is_played() -> None:
    scene = make_scene(np.zeros_like(MODEL), USER)
    assert look(scene).heard is None


def test_it_changes_its_mind_when_headphones_come_and_go() -> None:
    without = make_scene(MODEL, USER, coupling=0)
    finder = look(without)
    assert look(make_scene(MODEL, USER), finder=finder).heard is True
    assert look(without, finder=finder).heard is False


@pytest.mark.parametrize("left", [1.0, 0.5, 0.1, 0.03])
def test_what_is_left_of_the_echo_is_measured(left: float) -> None:
    scene = make_scene(MODEL)
    finder = look(scene, out=scene.near - (1 - left) * scene.echo)
    assert finder.erle == pytest.approx(-20 * np.log10(left), abs=1)


@pytest.mark.parametrize(("left", "least", "most"), [(1, -1, 1), (0.5, 4, 9), (0.1, 10, 20), (0, 10, 20)])
def test_what_a_louder_voice_may_hide_counts_as_left(left: float, least: float, most: float) -> None:
    scene = make_scene(MODEL, USER, near_to_echo=10)
    finder = look(scene, out=scene.near - (1 - left) * scene.echo)
    assert least < finder.erle < most


def test_chunks_do_not_matter() -> None:
    scene = make_scene(MODEL)
    finder = EchoFinder()
    for start in range(0, len(MODEL), 7001):
        part = slice(start, start + 7001)
        finder.look(scene.near[part], scene.far[part], scene.near[part])
    assert finder.agreement == look(scene).agreement
