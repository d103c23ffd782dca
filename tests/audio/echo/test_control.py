"""`--echo`: what it says of itself, and that it rests where there is no echo."""

import sys
from functools import cache

import numpy as np
import pytest

from moshi_mlx.audio.echo.control import ECHO_MODES, EchoControl
from moshi_mlx.errors import ConfigError
from moshi_mlx.frames import FRAME_SAMPLES, FRAME_SECONDS
from tests.audio.echo_scene import Scene, decibels, erle, estoi, make_scene, run, seconds, talker

pytestmark = pytest.mark.slow

SECONDS = 20


@cache
def model() -> np.ndarray:
    return talker(SECONDS, seed=11)


@cache
def user() -> np.ndarray:
    return talker(SECONDS, seed=12)


def watch(control: EchoControl, scene: Scene) -> tuple[np.ndarray, list[str]]:
    """What comes out, and the state after each frame."""
    out, states = [], []
    for start in range(0, len(scene.near) - FRAME_SAMPLES + 1, FRAME_SAMPLES):
        part = slice(start, start + FRAME_SAMPLES)
        out.append(control.process(scene.near[part], scene.far[part]))
        states.append(control.state)
    return np.concatenate(out), states


def changes(states: list[str]) -> list[str]:
    return [state for index, state in enumerate(states) if index == 0 or state != states[index - 1]]


def joined(first: Scene, second: Scene, at: float) -> Scene:
    before, after = seconds(0, at), seconds(at, SECONDS)
    return Scene(*(np.concatenate([getattr(first, n)[before], getattr(second, n)[after]]) for n in vars(first)))


@pytest.mark.parametrize("mode", ["auto", "linear"])
def test_a_loudspeaker_is_cancelled_and_it_says_so(mode: str) -> None:
    scene = make_scene(model())
    control = EchoControl(mode)
    out, states = watch(control, scene)
    assert changes(states) == ["learning", "cancelling"]
    assert states.index("cancelling") * FRAME_SECONDS < 4
    assert control.erle == pytest.approx(erle(scene, out, 17, 20), abs=6)
    assert control.advice is None


def test_it_is_cancelling_too_when_both_talk() -> None:
    scene = make_scene(model(), user())
    control = EchoControl()
    out, states = watch(control, scene)
    part = seconds(6, SECONDS)
    assert states[-1] == "cancelling"
    assert control.erle > 8
    assert estoi(scene.voice[part], out[part]) > 0.9


def test_headphones_are_left_alone() -> None:
    scene = make_scene(model(), user(), coupling=0)
    control = EchoControl("auto")
    out, states = watch(control, scene)
    assert changes(states) == ["learning", "no echo"]
    quiet = seconds((states.index("no echo") + 1) * FRAME_SECONDS, SECONDS)
    assert np.array_equal(out[quiet], scene.near[quiet])
    assert decibels(out) == pytest.approx(decibels(scene.near), abs=0.5)


def test_without_an_echo_the_canceller_does_not_work(monkeypatch: pytest.MonkeyPatch) -> None:
    control = EchoControl("auto")
    scene = make_scene(model(), coupling=0)
    watch(control, scene)
    monkeypatch.setattr(control.canceller, "process", lambda *_: pytest.fail("worked for nothing"))
    control.process(scene.near[:FRAME_SAMPLES], scene.far[:FRAME_SAMPLES])


def test_headphones_may_be_unplugged() -> None:
    scene = joined(make_scene(model(), coupling=0), make_scene(model()), at=9)
    out, states = watch(EchoControl("auto"), scene)
    assert changes(states) == ["learning", "no echo", "learning", "cancelling"]
    assert erle(scene, out, 16, 20) > 15


def test_headphones_may_be_plugged_in() -> None:
    scene = joined(make_scene(model()), make_scene(model(), coupling=0), at=9)
    out, states = watch(EchoControl("auto"), scene)
    assert states[-1] == "no echo"
    # For a moment the echo that is no more is still cancelled: what comes out then is no louder than what it was.
    assert decibels(out[seconds(9, 9.5)]) < decibels(scene.near[seconds(7, 9)])
    assert erle(scene, out, 12, 20) > -0.5


def test_a_loudspeaker_far_behind_is_cancelled() -> None:
    """As by Bluetooth: later than the canceller's tail."""
    scene = make_scene(model(), delay=0.45)
    control = EchoControl("auto")
    out, states = watch(control, scene)
    assert states[-1] == "cancelling"
    assert erle(scene, out, 12, 20) > 18


class Useless:
    """A canceller that does nothing."""

    def __init__(self) -> None:
        self.resets = self.starts = 0

    def reset(self) -> None:
        self.starts += 1

    def process(self, near: np.ndarray, far: np.ndarray) -> np.ndarray:
        return near


@pytest.mark.parametrize("mode", ["auto", "webrtc"])
def test_an_echo_out_of_control_is_called_lost(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ECHO_MODES, mode, Useless)
    control = EchoControl(mode)
    canceller = control.canceller
    assert isinstance(canceller, Useless)
    starts = canceller.starts + 1  # one more when the echo is heard first
    _, states = watch(control, make_scene(model(), user()))
    assert changes(states) == ["learning", "lost"]
    assert canceller.starts > starts, "it was told to start over"
    assert control.advice is not None
    assert "the model hears itself" in control.advice
    assert ("--echo webrtc" in control.advice) == (mode != "webrtc")


def test_a_user_who_is_far_louder_than_the_echo_is_no_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ECHO_MODES, "auto", Useless)
    _, states = watch(EchoControl(), make_scene(model(), user(), near_to_echo=26))
    assert "lost" not in states


def test_off_is_off() -> None:
    control = EchoControl("off")
    scene = make_scene(model())
    out, states = watch(control, scene)
    assert np.array_equal(out, scene.near[: len(out)])
    assert set(states) == {"off"}
    assert (control.erle, control.advice) == (0.0, None)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_what_a_broken_driver_gives_does_not_reach_the_codec_even_when_off(bad: float) -> None:
    """A codec that has seen one NaN knows nothing else for the rest of the conversation."""
    near = np.full(FRAME_SAMPLES, 0.1, np.float32)
    near[7] = bad
    out = EchoControl("off").process(near, np.zeros_like(near))
    assert np.isfinite(out).all()
    assert np.abs(out).max() <= 1


def test_after_a_reset_it_is_new() -> None:
    scene = make_scene(model()[: 4 * 24_000])
    control = EchoControl()
    first = watch(control, scene)
    control.reset()
    again = watch(control, scene)
    assert np.array_equal(first[0], again[0])
    assert first[1] == again[1]


def test_a_broken_driver_does_no_lasting_harm() -> None:
    scene = make_scene(model())
    for start, bad in ((4, np.nan), (4.5, np.inf), (5, 1e30)):
        scene.near[seconds(start, start + 0.1)] = bad
        scene.far[seconds(start + 0.2, start + 0.3)] = bad
    control = EchoControl()
    out, states = watch(control, scene)
    assert np.isfinite(out).all()
    assert states[-1] == "cancelling"


def test_a_muted_microphone_is_no_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ECHO_MODES, "auto", Useless)
    scene = make_scene(model())
    scene.near[seconds(6, 18)] = 0
    _, states = watch(EchoControl(), scene)
    assert set(states) == {"learning"}


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'aec3'; choose one of auto, linear, webrtc, off"):
        EchoControl("aec3")


def test_webrtc_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pywebrtc_audio", None)
    with pytest.raises(ConfigError, match=r"pip install 'moshi-mlx\[aec\]'") as error:
        EchoControl("webrtc")
    assert "\n" not in str(error.value)


def test_webrtc_cancels_but_takes_the_user_along() -> None:
    pytest.importorskip("pywebrtc_audio", reason="the extra [aec] is not installed")
    scene = make_scene(model())
    control = EchoControl("webrtc")
    out, states = watch(control, scene)
    assert changes(states) == ["learning", "cancelling"]
    assert erle(scene, out, 8, 14) > 25
    control.reset()
    both = make_scene(model(), user())
    part = seconds(5, SECONDS)
    assert estoi(both.voice[part], run(control, both)[part]) < estoi(both.voice[part], both.near[part])


def test_webrtc_leaves_a_user_who_talks_alone() -> None:
    pytest.importorskip("pywebrtc_audio", reason="the extra [aec] is not installed")
    scene = make_scene(np.zeros_like(model()), user())
    control = EchoControl("webrtc")
    out = run(control, scene)
    assert decibels(out) == pytest.approx(decibels(scene.near), abs=0.5)
    spectrum = np.fft.rfft(out, 2 * len(out)) * np.fft.rfft(scene.near, 2 * len(out)).conj()
    assert np.fft.irfft(spectrum).argmax() == pytest.approx(control.holds_back * 24_000, abs=24)
