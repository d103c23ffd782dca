"""The built-in echo canceller: takes the echo, leaves the user, follows what changes."""

from functools import cache

import numpy as np
import pytest

from moshi_mlx.audio.echo.kalman import BLOCK, TAIL, LinearEchoCanceller, taps
from moshi_mlx.frames import SAMPLE_RATE
from tests.audio.echo_scene import (
    Scene,
    convolve,
    decibels,
    erle,
    estoi,
    late,
    make_scene,
    room,
    run,
    seconds,
    talker,
)

pytestmark = pytest.mark.slow

SECONDS = 14


@cache
def model() -> np.ndarray:
    return talker(SECONDS, seed=1)


@cache
def user() -> np.ndarray:
    return talker(SECONDS, seed=2)


def left_of_echo(scene: Scene, heard: np.ndarray, start: float, stop: float) -> float:
    """By how many dB the echo itself is fainter, whoever else talks."""
    part = seconds(start, stop)
    return decibels(scene.echo[part]) - decibels((heard - scene.near + scene.echo)[part])


def test_the_echo_goes() -> None:
    scene = make_scene(model())
    heard = run(LinearEchoCanceller(), scene)
    assert erle(scene, heard, 2, 5) > 12
    assert erle(scene, heard, 8, 14) > 22


def test_the_user_stays_while_both_talk() -> None:
    scene = make_scene(model(), user())
    heard = run(LinearEchoCanceller(), scene)
    part = seconds(5, SECONDS)
    assert estoi(scene.voice[part], scene.near[part]) < 0.65
    assert estoi(scene.voice[part], heard[part]) > 0.9
    assert left_of_echo(scene, heard, 8, 14) > 15


def test_a_user_who_is_much_louder_does_not_mislead_it() -> None:
    scene = make_scene(model(), user(), near_to_echo=10)
    heard = run(LinearEchoCanceller(), scene)
    part = seconds(5, SECONDS)
    assert estoi(scene.voice[part], heard[part]) > 0.95
    assert left_of_echo(scene, heard, 8, 14) > 10


def test_what_the_user_says_alone_is_untouched() -> None:
    far = model().copy()
    far[seconds(7, SECONDS)] = 0
    voice = user().copy()
    voice[seconds(0, 8)] = 0
    scene = make_scene(far, voice)
    heard = run(LinearEchoCanceller(), scene)
    assert np.array_equal(heard[seconds(8, SECONDS)], scene.near[seconds(8, SECONDS)])


def test_the_user_keeps_the_level_while_the_model_hums_along() -> None:
    """The loudspeaker is not silent but faint, as a codec's silence is."""
    noise = np.random.RandomState(3).standard_normal(len(model()))
    scene = make_scene((0.003 * noise).astype(np.float32), user(), coupling=0.05)
    heard = run(LinearEchoCanceller(), scene)
    part = seconds(3, SECONDS)
    assert abs(decibels(heard[part]) - decibels(scene.near[part])) < 0.5


@pytest.mark.parametrize("ppm", [20, -20, 50, -100])
def test_two_clocks_may_drift_apart(ppm: float) -> None:
    # 120 ms are three blocks: the loudest part of the response wanders from one partition into the one before.
    scene = make_scene(model(), drift_ppm=ppm)
    canceller = LinearEchoCanceller()
    assert erle(scene, run(canceller, scene), 8, 14) > 24
    assert canceller.path.drift / BLOCK * 1e6 == pytest.approx(ppm, abs=5)


def test_clocks_drift_on_while_nothing_is_played() -> None:
    far = talker(16, seed=3)
    far[seconds(7, 12)] = 0
    scene = make_scene(far, drift_ppm=100)
    heard = run(LinearEchoCanceller(), scene)
    assert erle(scene, heard, 12, 13.5) > 12


@pytest.mark.parametrize("jump", [0.06, -0.06])
def test_it_recovers_when_the_delay_jumps(jump: float) -> None:
    scene = make_scene(talker(16, seed=3), jump=jump, jump_at=7)
    canceller = LinearEchoCanceller()
    heard = run(canceller, scene)
    assert canceller.resets == 1
    assert erle(scene, heard, 7, 9) > -4, "made worse for long"
    assert erle(scene, heard, 13, 16) > 15


def test_volume_keys_are_followed_at_once() -> None:
    quiet, loud = make_scene(model(), coupling=0.3), make_scene(model(), coupling=1.5)
    near = np.concatenate([quiet.near[seconds(0, 8)], loud.near[seconds(8, SECONDS)]])
    canceller = LinearEchoCanceller()
    heard = run(canceller, Scene(loud.far, near, loud.voice, loud.echo))
    assert canceller.resets == 0
    assert erle(loud, heard, 10, 12) > 15


@pytest.mark.parametrize(("coupling", "loudness"), [(0.2, 1.0), (6.0, 0.3)])
def test_it_learns_as_fast_at_any_volume(coupling: float, loudness: float) -> None:
    scene = make_scene(loudness * model(), coupling=coupling)
    assert erle(scene, run(LinearEchoCanceller(), scene), 3, 6) > 14


def test_what_it_learns_is_the_room() -> None:
    random = np.random.RandomState(5)
    far = 0.1 * random.standard_normal(8 * SAMPLE_RATE)
    response = late(np.pad(0.3 * room(random), (0, TAIL)), 0.03)[:TAIL]
    near = convolve(far, response) + 1e-4 * random.standard_normal(len(far))
    canceller = LinearEchoCanceller()
    for start in range(0, len(far), BLOCK):
        canceller.process(near[start : start + BLOCK], far[start : start + BLOCK])
    learnt = taps(canceller.path.response).ravel()
    assert decibels(learnt - response) < decibels(response) - 25


def test_a_muted_microphone_teaches_nothing() -> None:
    scene = make_scene(model())
    scene.near[seconds(7, 9)] = 0
    heard = run(LinearEchoCanceller(), scene)
    assert not heard[seconds(7.5, 9)].any()
    assert erle(scene, heard, 9.5, 12) > 18


def test_silence_costs_no_transforms(monkeypatch: pytest.MonkeyPatch) -> None:
    canceller = LinearEchoCanceller()
    scene = make_scene(model())
    run(canceller, Scene(*(part[seconds(0, 2)] for part in (scene.far, scene.near, scene.voice, scene.echo))))
    silence = np.zeros(BLOCK, np.float32)
    for _ in range(TAIL // BLOCK + 1):
        canceller.process(scene.near[:BLOCK], silence)
    monkeypatch.setattr(np.fft, "rfft", lambda *_: pytest.fail("worked on silence"))
    assert np.array_equal(canceller.process(scene.near[:1920], np.zeros(1920, np.float32)), scene.near[:1920])


@pytest.mark.parametrize("blocks", [2, 4])
def test_it_does_not_matter_how_much_comes_at_once(blocks: int) -> None:
    scene = make_scene(model()[: 2 * SAMPLE_RATE])
    by_block, at_once = LinearEchoCanceller(), LinearEchoCanceller()
    one = [by_block.process(*pair) for pair in cut(scene, BLOCK)]
    other = [at_once.process(*pair) for pair in cut(scene, blocks * BLOCK)]
    length = len(np.concatenate(other))
    assert np.array_equal(np.concatenate(one)[:length], np.concatenate(other))


def test_after_a_reset_it_is_new() -> None:
    scene = make_scene(model()[: 3 * SAMPLE_RATE])
    canceller = LinearEchoCanceller()
    first = run(canceller, scene)
    canceller.reset()
    assert np.array_equal(run(canceller, scene), first)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
def test_a_broken_driver_does_no_lasting_harm(bad: float) -> None:
    scene = make_scene(model())
    scene.near[seconds(4, 4.1)] = bad
    scene.far[seconds(5, 5.1)] = bad
    heard = run(LinearEchoCanceller(), scene)
    assert np.isfinite(heard).all()
    assert erle(scene, heard, 11, 14) > 15


@pytest.mark.parametrize(
    ("near", "far"),
    [((BLOCK,), (2 * BLOCK,)), ((BLOCK + 1,), (BLOCK + 1,)), ((BLOCK, 1), (BLOCK, 1))],
    ids=["lengths differ", "no whole blocks", "two axes"],
)
def test_wrong_shapes_are_refused(near: tuple[int, ...], far: tuple[int, ...]) -> None:
    with pytest.raises(AssertionError):
        LinearEchoCanceller().process(np.zeros(near, np.float32), np.zeros(far, np.float32))


def cut(scene: Scene, samples: int) -> list[tuple[np.ndarray, np.ndarray]]:
    starts = range(0, len(scene.near) - samples + 1, samples)
    return [(scene.near[s : s + samples], scene.far[s : s + samples]) for s in starts]
