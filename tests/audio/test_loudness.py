"""Loudness in LUFS, against the test signals of the standards."""

import numpy as np
import pytest

from moshi_mlx.audio.loudness import at_loudness, loudness
from moshi_mlx.errors import AudioFileError


def sine(hertz: float, seconds: float, dbfs: float) -> np.ndarray:
    time = np.arange(int(seconds * 24_000)) / 24_000
    return 10 ** (dbfs / 20) * np.sin(2 * np.pi * hertz * time)


def test_a_full_scale_tone_of_997_hz_in_one_channel_is_at_minus_three() -> None:
    """ITU-R BS.1770-4, annex 1."""
    assert loudness(sine(997, 10, 0)) == pytest.approx(-3.01, abs=0.1)
    assert loudness(sine(997, 10, -20)) == pytest.approx(-23.01, abs=0.1)


def test_bass_counts_less_and_treble_more() -> None:
    assert loudness(sine(30, 10, 0)) < -10
    assert loudness(sine(5000, 10, 0)) == pytest.approx(0.3, abs=0.4)


def test_pauses_do_not_count() -> None:
    """As the sequence of EBU Tech 3341, case 3: what is 13 LU below the rest is left out."""
    speech = sine(997, 20, -20)
    with_pauses = np.concatenate([sine(997, 10, -33), speech, sine(997, 10, -33), np.zeros(240_000)])
    assert loudness(with_pauses) == pytest.approx(loudness(speech), abs=0.1)


def test_a_recording_is_made_as_loud_as_asked() -> None:
    noise = (0.01 * np.random.RandomState(0).standard_normal(48_000)).astype(np.float32)
    louder = at_loudness(noise, -24)
    assert louder.dtype == np.float32
    assert loudness(louder) == pytest.approx(-24, abs=1e-3)
    short = at_loudness(noise[:2000], -24)
    assert loudness(short) == pytest.approx(-24, abs=1e-3)


@pytest.mark.parametrize("pcm", [np.zeros(48_000), np.zeros(0), 1e-5 * np.ones(48_000)])
def test_silence_has_no_loudness(pcm: np.ndarray) -> None:
    with pytest.raises(AudioFileError, match="is silent"):
        at_loudness(pcm, -24)
