"""Drawing tokens: the distribution, its truncations, its randomness."""

import math

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.errors import ConfigError
from moshi_mlx.runtime.sampling import RowSettings, filtered_logits, frame_keys, gumbel, penalise, sample
from moshi_mlx.sampling_config import GREEDY, SamplingConfig

PROBABILITIES = np.array([0.4, 0.3, 0.15, 0.1, 0.05])
DRAWS = 4000


def draw_many(temperature: float = 1.0, top_k: int = 0, top_p: float = 0.0, min_p: float = 0.0) -> np.ndarray:
    """Frequencies of DRAWS tokens drawn from PROBABILITIES."""
    config = SamplingConfig(text_temperature=temperature, text_top_k=top_k, top_p=top_p, min_p=min_p)
    settings = RowSettings([config], "text", len(PROBABILITIES))
    logits = mx.array(np.log(PROBABILITIES)[None].astype(np.float32))
    drawn = gumbel(mx.array(frame_keys([(1, 0)])), DRAWS * len(PROBABILITIES)).reshape(DRAWS, -1)
    tokens = sample(mx.repeat(logits, DRAWS, axis=0), drawn, settings.features, mx.array(settings.values))
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
        ({"top_k": 2, "top_p": 0.5}, np.array([1.0, 0, 0, 0, 0])),  # of the two that top-k leaves, one is half
        ({"top_p": 0.5}, normalised(PROBABILITIES * [1, 1, 0, 0, 0])),  # PyTorch does this, whatever top-k is
        ({"min_p": 0.3}, normalised(PROBABILITIES * [1, 1, 1, 0, 0])),
        ({"temperature": 0.0}, np.array([1.0, 0, 0, 0, 0])),
    ],
    ids=str,
)
def test_frequencies_follow_the_truncated_distribution(settings: dict[str, float], expected: np.ndarray) -> None:
    frequencies = draw_many(**settings)  # pyright: ignore[reportArgumentType]
    assert np.abs(frequencies - expected).max() < 5 * math.sqrt(0.25 / DRAWS)
    assert (frequencies[expected == 0] == 0).all()


def test_all_that_tie_at_the_edge_of_top_k_are_kept() -> None:
    settings = RowSettings([SamplingConfig(text_temperature=1.0, text_top_k=2)], "text", 6)
    logits = mx.array([[0.0, 1.0, 2.0, 1.0, 1.0, -1.0]])
    kept = np.isfinite(np.array(filtered_logits(logits, settings.features, mx.array(settings.values)))[0])
    assert kept.tolist() == [False, True, True, True, True, False]


@pytest.mark.parametrize("vocabulary", [32_000, 48_000, 8_000, 4_001, 2_048])
@pytest.mark.parametrize("k", [1, 25, 250])
def test_top_k_keeps_exactly_the_k_best_of_a_wide_vocabulary(vocabulary: int, k: int) -> None:
    logits = np.random.RandomState(k).standard_normal((1, vocabulary)).astype(np.float32)
    best = np.argsort(logits[0])[-k:]
    settings = RowSettings([SamplingConfig(text_temperature=1.0, text_top_k=k)], "text", vocabulary)
    # Noise that outweighs every difference: the draw tells which tokens were still in the running.
    for loud in [best[0], best[-1], np.argsort(logits[0])[-k - 1]]:
        loudest = np.zeros((1, vocabulary), np.float32)
        loudest[0, loud] = 1e6
        drawn = sample(mx.array(logits), mx.array(loudest), settings.features, mx.array(settings.values)).item()
        assert (drawn == loud) == (loud in best)


def noise(seed: int, frame: int) -> mx.array:
    return gumbel(mx.array(frame_keys([(seed, frame)])), 8)


def test_noise_depends_on_seed_and_frame_only() -> None:
    assert mx.array_equal(noise(5, 9), noise(5, 9))
    assert not mx.array_equal(noise(5, 9), noise(5, 10))
    assert not mx.array_equal(noise(5, 9), noise(6, 9))


ROWS = [
    SamplingConfig(text_top_k=4),
    SamplingConfig(text_temperature=1.5, text_top_k=9, top_p=0.8),
    GREEDY,
    SamplingConfig(text_temperature=0.5, text_top_k=0, min_p=0.2),
    SamplingConfig(text_temperature=1.2, text_top_k=0),
    SamplingConfig(text_temperature=1.1, text_top_k=1000),  # more than there are
]


@pytest.mark.parametrize("seed", range(8))
def test_rows_with_other_settings_and_seeds_draw_as_they_would_alone(seed: int) -> None:
    keys = mx.array(frame_keys([(seed + row, 3 * row) for row in range(len(ROWS))]))
    logits = 2 * mx.random.normal((len(ROWS), 40), key=mx.random.key(seed))
    together = RowSettings(ROWS, "text", 40)
    tokens = np.array(sample(logits, gumbel(keys, 40), together.features, mx.array(together.values)))
    for row, config in enumerate(ROWS):
        alone, here = RowSettings([config], "text", 40), slice(row, row + 1)
        assert (
            tokens[row]
            == sample(logits[here], gumbel(keys[here], 40), alone.features, mx.array(alone.values)).item()
        )
    assert tokens[ROWS.index(GREEDY)] == mx.argmax(logits[ROWS.index(GREEDY)]).item()


def test_repetition_penalty_lowers_recent_tokens_of_its_row_only() -> None:
    logits = mx.array([[1.0, 3.0, -2.0], [1.0, 3.0, -2.0]])
    penalised = penalise(logits, mx.array([[1, 2, 1], [1, 2, 1]]), mx.array([[2.0], [1.0]]))
    assert penalised.tolist() == [[1.0, 1.5, -4.0], [1.0, 3.0, -2.0]]


@pytest.mark.parametrize(
    "settings", [{"text_temperature": -1.0}, {"top_p": 1.5}, {"audio_top_k": -1}, {"min_p": math.nan}], ids=str
)
def test_settings_that_mean_nothing_are_refused_by_name(settings: dict[str, float]) -> None:
    (name,) = settings
    with pytest.raises(ConfigError, match=name):
        SamplingConfig(**settings)  # pyright: ignore[reportArgumentType]


def test_a_greedy_row_does_not_change_how_others_choose_the_best() -> None:
    """Rows come and go, and one without a conversation is greedy: what is compiled stays the same."""
    config = SamplingConfig(text_top_k=2)
    alone = RowSettings([config], "text", 6).features
    assert RowSettings([config, GREEDY], "text", 6).features == alone
    assert not RowSettings([config, SamplingConfig(text_top_k=3)], "text", 6).features.same_top_k


@pytest.mark.parametrize("others", [3, 0], ids=["three", "all"])
def test_each_row_has_its_own_top_k(others: int) -> None:
    configs = [SamplingConfig(text_temperature=0.5, text_top_k=k) for k in (2, others)]
    settings = RowSettings(configs, "text", 6)
    logits = mx.array([[0.0, 1.0, 2.0, 3.0, 4.0, -1.0]] * 2)
    filtered = np.array(filtered_logits(logits, settings.features, mx.array(settings.values)))
    assert np.isfinite(filtered).sum(axis=1).tolist() == [2, others or 6]
    assert filtered[0, 4] == 8.0  # divided by the temperature
