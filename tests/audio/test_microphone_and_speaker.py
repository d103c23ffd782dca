"""The samples of a microphone and a speaker, without devices: any block, any rate, any number of channels."""

import itertools

import numpy as np
import pytest

from moshi_mlx.audio.capture import Tap, Wakeup
from moshi_mlx.audio.speaker import Speaker
from moshi_mlx.frames import FRAME_SECONDS, SAMPLE_RATE

BLOCKS = [480, 1, 7, 333, 1023, 960, 2, 4096]


def tone(rate: int, seconds: float = 2.0) -> np.ndarray:
    """440 Hz, (samples,) float32."""
    return (0.5 * np.sin(2 * np.pi * 440 * np.arange(round(rate * seconds)) / rate)).astype(np.float32)


def likeness(heard: np.ndarray, expected: np.ndarray) -> float:
    """Correlation of the second after the first half second, at the best shift within 100 ms."""
    begin, length = SAMPLE_RATE // 2, SAMPLE_RATE
    part = heard[begin : begin + length]
    shifts = range(-SAMPLE_RATE // 10, SAMPLE_RATE // 10, 2)
    return max(float(np.corrcoef(part, expected[begin + s : begin + s + length])[0, 1]) for s in shifts)


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_a_microphone_gives_the_mean_of_its_channels_whatever_the_blocks(channels: int) -> None:
    microphone = Tap(Wakeup())
    pcm = np.random.default_rng(0).standard_normal((20_000, channels)).astype(np.float32)
    heard, start = [], 0
    for block in itertools.cycle(BLOCKS):
        microphone.fill(pcm[start : start + block])
        heard.append(microphone.read())
        start += block
        if start >= len(pcm):
            break
    np.testing.assert_allclose(np.concatenate(heard), pcm.mean(axis=1), atol=1e-6)


@pytest.mark.parametrize("rate", [16_000, 44_100, 48_000])
def test_a_microphone_of_another_rate_is_resampled(rate: int) -> None:
    microphone = Tap(Wakeup())
    microphone.prepare(rate)
    pcm = tone(rate)
    heard = []
    for start in range(0, len(pcm), 333):
        microphone.fill(pcm[start : start + 333, None])
        heard.append(microphone.read())
    whole = np.concatenate(heard)
    assert 1.9 * SAMPLE_RATE < len(whole) <= 2 * SAMPLE_RATE
    assert likeness(whole, tone(SAMPLE_RATE)) > 0.9999


@pytest.mark.parametrize("rate", [24_000, 48_000])
def test_what_is_no_number_becomes_silence_and_is_counted(rate: int) -> None:
    microphone = Tap(Wakeup())
    microphone.prepare(rate)
    pcm = tone(rate, 1.0)
    pcm[rate // 2 : rate // 2 + 3] = np.nan, np.inf, -np.inf
    microphone.fill(pcm[:, None])
    heard = microphone.read()
    assert microphone.cleaned == 3
    assert np.isfinite(heard).all()
    assert np.abs(heard[-2000:]).max() > 0.4, "and the rest is heard"


def test_a_microphone_tells_dead_air_from_quiet_noise() -> None:
    microphone = Tap(Wakeup())
    microphone.fill(np.zeros((24_000, 1), dtype=np.float32))
    microphone.read()
    assert microphone.dead_seconds == 1.0
    assert not microphone.sounds
    quiet = np.zeros((480, 1), dtype=np.float32)
    quiet[300] = 1 / 32768
    microphone.fill(quiet)
    microphone.read()
    assert microphone.sounds
    assert microphone.dead_seconds == 0.0


@pytest.mark.parametrize("rate", [16_000, 24_000, 44_100, 48_000])
def test_a_speaker_plays_at_its_rate_on_all_channels_and_tells_what_it_played(rate: int) -> None:
    played = Tap(Wakeup())
    speaker = Speaker(played)
    speaker.prepare(rate)
    blocks = itertools.cycle([480, 333, 77])
    told, clock = [], 0.0
    for number, frame in enumerate(np.split(tone(SAMPLE_RATE, 4.0), 50)):
        speaker.write(frame)
        while clock < (number + 1) * FRAME_SECONDS:
            block = np.full((next(blocks), 2), np.nan, dtype=np.float32)
            speaker.fill(block)
            np.testing.assert_array_equal(block[:, 0], block[:, 1])
            told.append(played.read())
            clock += len(block) / rate
    assert speaker.underruns == 0
    assert likeness(np.concatenate(told), tone(SAMPLE_RATE, 4.0)) > 0.999
