"""Finding the loudspeaker in the microphone: is it there, how late, how much is left of it."""

import numpy as np
import pytest

from moshi_mlx.audio.echo.detector import SPAN, EchoDetector
from tests.audio.echo_scene import Scene, make_scene, talker

MODEL, USER = talker(12, seed=5), talker(12, seed=6)


def look(scene: Scene, out: np.ndarray | None = None, detector: EchoDetector | None = None) -> EchoDetector:
    detector = detector or EchoDetector()
    for start in range(0, len(scene.near) - SPAN + 1, SPAN):
        part = slice(start, start + SPAN)
        detector.look(scene.near[part], scene.far[part], (scene.near if out is None else out)[part])
    return detector


@pytest.mark.parametrize("voice", [None, USER], ids=["nobody speaks", "the user speaks"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_headphones_are_told_from_an_echo(voice: np.ndarray | None, seed: int) -> None:
    assert look(make_scene(MODEL, voice, coupling=0, seed=seed)).heard is False


@pytest.mark.parametrize("voice", [None, USER], ids=["nobody speaks", "the user speaks"])
@pytest.mark.parametrize("delay", [0.02, 0.12, 0.5])
def test_the_delay_is_found(voice: np.ndarray | None, delay: float) -> None:
    detector = look(make_scene(MODEL, voice, delay=delay))
    assert detector.heard is True
    assert detector.delay == pytest.approx(delay, abs=0.002)


def test_an_echo_far_below_the_user_is_heard() -> None:
    assert look(make_scene(MODEL, USER, near_to_echo=20)).heard is True


def test_a_faint_echo_is_heard_through_clocks_that_drift() -> None:
    assert look(make_scene(MODEL, coupling=0.03, drift_ppm=50)).heard is True


def test_nothing_is_said_before_something_is_played() -> None:
    scene = make_scene(np.zeros_like(MODEL), USER)
    assert look(scene).heard is None


def test_it_changes_its_mind_when_headphones_come_and_go() -> None:
    without = make_scene(MODEL, USER, coupling=0)
    detector = look(without)
    assert look(make_scene(MODEL, USER), detector=detector).heard is True
    assert look(without, detector=detector).heard is False


@pytest.mark.parametrize("left", [1.0, 0.5, 0.1, 0.03])
def test_what_is_left_of_the_echo_is_measured(left: float) -> None:
    scene = make_scene(MODEL)
    detector = look(scene, out=scene.near - (1 - left) * scene.echo)
    assert detector.erle == pytest.approx(-20 * np.log10(left), abs=1)


@pytest.mark.parametrize(("left", "least", "most"), [(1, -1, 1), (0.5, 4, 9), (0.1, 10, 20), (0, 10, 20)])
def test_what_a_louder_voice_may_hide_counts_as_left(left: float, least: float, most: float) -> None:
    scene = make_scene(MODEL, USER, near_to_echo=10)
    detector = look(scene, out=scene.near - (1 - left) * scene.echo)
    assert least < detector.erle < most
