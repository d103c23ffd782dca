"""Neural synthesizers: who is heard in training, and one clear line where something is missing."""

from pathlib import Path

import numpy as np
import pytest

from training import corpus, neural
from training.voices import TRAINING_VOICES, Voice, _neural, blended, speak


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty one in place of `build/kokoro`."""
    monkeypatch.setattr(neural, "FOLDER", tmp_path)
    neural._style.cache_clear()
    return tmp_path


def test_a_missing_speaker_is_said_in_one_line(folder: Path) -> None:
    with pytest.raises(RuntimeError, match=r"am_adam\.bin is missing: scripts/kokoro_voices\.sh fetches"):
        speak(Voice("kokoro", "am_adam"), "Hello.")


def test_a_missing_package_is_said_in_one_line() -> None:
    with pytest.raises(RuntimeError, match="the Python package no_such_voice is not installed"):
        neural._package("no_such_voice")


def test_between_two_speakers_is_their_mean(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[float, str]] = []

    class Program:
        @staticmethod
        def create(text: str, voice: np.ndarray, speed: float, lang: str) -> tuple[np.ndarray, int]:
            given.append((float(voice.mean()), lang))
            return np.sin(np.arange(4_800, dtype=np.float32) / 9), 24_000

    (folder / "voices").mkdir()
    for name, value in (("af_sky", 1), ("bf_emma", 2)):
        np.full(510 * 256, value, "<f4").tofile(folder / "voices" / f"{name}.bin")
    monkeypatch.setattr(neural, "_kokoro", Program)
    for name in ("af_sky", "bf_emma", "bf_emma+af_sky", "bf_emma"):  # what has been said is kept
        said = speak(Voice("kokoro", name), "Hello.")
    assert given == [(1, "en-us"), (2, "en-gb"), (1.5, "en-gb")]
    assert len(said.pcm) == 4_800
    assert np.abs(said.pcm - 0.5 * np.sin(np.arange(4_800) / 9)).max() < 1e-3


def test_pitch_leaves_the_length_as_it_was() -> None:
    def said(name: str, text: str, speed: float) -> tuple[np.ndarray, int]:
        return np.sin(np.arange(round(24_000 / speed), dtype=np.float32) / 9), 24_000

    pcm, rate, _ = _neural(said)("", "", 0.9, 1.2)
    assert len(pcm) / rate == pytest.approx(1 / 0.9, abs=1e-3)


def test_a_speaker_half_way_is_between_two_of_training() -> None:
    voice, rng = Voice("kokoro", "am_adam"), np.random.default_rng(0)
    assert voice in TRAINING_VOICES
    names = [blended(rng, voice).name for _ in range(1000)]
    others = {name.partition("+")[2] for name in names} - {""}
    assert {name.partition("+")[0] for name in names} == {"am_adam"}
    assert others == {one.name for one in TRAINING_VOICES if one.engine == "kokoro"} - {"am_adam"}
    assert 0.3 < sum("+" in name for name in names) / len(names) < 0.5
    assert blended(rng, Voice("flite", "rms")) == Voice("flite", "rms")


def test_a_voice_that_takes_a_second_says_a_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "labelled", lambda voice, text, speed, pitch: voice)
    number = TRAINING_VOICES.index(Voice("kokoro", "am_adam"))
    said = corpus._takes(number)
    assert 25 <= len(said) <= 70
    assert all(name == str(voice) for name, _, voice in said)
    assert {name.partition("+")[0] for name, *_ in said} == {"kokoro:am_adam"}
    assert 0.2 < sum("+" in name for name, *_ in said) / len(said) < 0.6
