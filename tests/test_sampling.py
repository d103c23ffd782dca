"""Drawing tokens: the distribution, its truncations, its randomness."""

import math

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.errors import ConfigError
from moshi_mlx.sampling import GREEDY, Draw, FrameSampler, SamplingConfig, frame_noise, sample

PROBABILITIES = np.array([0.4, 0.3, 0.15, 0.1, 0.05])
DRAWS = 4000


def draw_many(temperature: float = 1.0, top_k: int = 0, top_p: float = 0.0, min_p: float = 0.0) -> np.ndarray:
    """Frequencies of DRAWS tokens drawn from PROBABILITIES."""
    logits = mx.array(np.log(PROBABILITIES)[None].astype(np.float32))
    noise = frame_noise(1, 0, DRAWS * len(PROBABILITIES)).reshape(DRAWS, -1)
    tokens = sample(mx.repeat(logits, DRAWS, axis=0), noise, temperature, top_k, top_p, min_p)
    return np.bincount(np.array(tokens), minlength=len(PROBABILITIES)) / DRAWS


def normalised(values: np.ndarray) -> np.ndarray:
    return values / values.sum()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, PROBABILITIES),
        ({"temperature": 0.5}, normalised(PROBABILITIES**2)),
        ({"top_k": 2}, normalised(PROBABILITIES * [1, 1, 0, 0, 0])),
        ({"top_k": 99}, PROBABILITIES),
        ({"top_p": 0.75}, normalised(PROBABILITIES * [1, 1, 1, 0, 0])),
        ({"top_p": 0.1}, np.array([1.0, 0, 0, 0, 0])),
        ({"min_p": 0.3}, normalised(PROBABILITIES * [1, 1, 1, 0, 0])),
        ({"temperature": 0.0}, np.array([1.0, 0, 0, 0, 0])),
    ],
    ids=str,
)
def test_frequencies_follow_the_truncated_distribution(settings: dict[str, float], expected: np.ndarray) -> None:
    frequencies = draw_many(**settings)  # pyright: ignore[reportArgumentType]
    assert np.abs(frequencies - expected).max() < 5 * math.sqrt(0.25 / DRAWS)
    assert (frequencies[expected == 0] == 0).all()


@pytest.mark.parametrize("vocabulary", [32_000, 48_000, 8_000, 4_001, 2_048])
@pytest.mark.parametrize("k", [1, 25, 250])
def test_top_k_keeps_exactly_the_k_best_of_a_wide_vocabulary(vocabulary: int, k: int) -> None:
    logits = np.random.RandomState(k).standard_normal((1, vocabulary)).astype(np.float32)
    best = np.argsort(logits[0])[-k:]
    # Noise that outweighs every difference: the draw tells which tokens were still in the running.
    for loud in [best[0], best[-1], np.argsort(logits[0])[-k - 1]]:
        noise = np.zeros((1, vocabulary), np.float32)
        noise[0, loud] = 1e6
        drawn = sample(mx.array(logits), mx.array(noise), 1.0, k).item()
        assert (drawn == loud) == (loud in best)


def test_noise_depends_on_seed_and_frame_only() -> None:
    assert mx.array_equal(frame_noise(5, 9, 8), frame_noise(5, 9, 8))
    assert not mx.array_equal(frame_noise(5, 9, 8), frame_noise(5, 10, 8))
    assert not mx.array_equal(frame_noise(5, 9, 8), frame_noise(6, 9, 8))


def test_rows_with_other_settings_and_seeds_draw_as_they_would_alone() -> None:
    text_card, card, steps = 40, 30, 3
    hot = SamplingConfig(text_temperature=1.5, text_top_k=5, audio_temperature=1.2, audio_top_k=7)
    draws = [Draw(SamplingConfig(), 1, 4), Draw(hot, 2, 9), None, Draw(GREEDY, 3, 4)]
    mx.random.seed(3)
    text, audio = mx.random.normal((4, text_card)), mx.random.normal((4, card))
    together = FrameSampler(draws, text_card, card, steps)
    texts, codes = together.text(text).tolist(), together.audio(audio, 2).tolist()
    for row, draw in enumerate(draws):
        if draw:
            alone = FrameSampler([draw], text_card, card, steps)
            assert texts[row] == alone.text(text[row : row + 1]).item()
            assert codes[row] == alone.audio(audio[row : row + 1], 2).item()


def test_repetition_penalty_moves_the_choice_away_from_recent_text_only() -> None:
    config = SamplingConfig(text_temperature=0, audio_temperature=0, repetition_penalty=2.0)
    logits = mx.array([[1.0, 3.0, 2.0], [1.0, 3.0, 2.0]])
    sampler = FrameSampler([Draw(config, 0, 0, recent_text=[1]), Draw(config, 0, 0)], 3, 3, 1)
    assert sampler.text(logits).tolist() == [2, 1]
    assert sampler.audio(logits, 0).tolist() == [1, 1]


@pytest.mark.parametrize(
    "settings", [{"text_temperature": -1.0}, {"top_p": 1.5}, {"audio_top_k": -1}, {"min_p": math.nan}], ids=str
)
def test_settings_that_mean_nothing_are_refused_by_name(settings: dict[str, float]) -> None:
    (name,) = settings
    with pytest.raises(ConfigError, match=name):
        SamplingConfig(**settings)  # pyright: ignore[reportArgumentType]
