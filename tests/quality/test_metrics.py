"""Differences between predictions, and how sure they are, against computations done another way."""

import numpy as np
import pytest

from moshi_mlx.quality.metrics import Bootstrap, Differences, compare
from moshi_mlx.quality.predictions import Prediction


def random_prediction(seed: int, steps: int = 6, vocabularies: tuple[int, ...] = (5, 9, 9)) -> Prediction:
    random = np.random.RandomState(seed)
    logits = [random.standard_normal((steps, size)) for size in vocabularies]
    logs = [each - np.log(np.exp(each).sum(axis=-1, keepdims=True)) for each in logits]
    return Prediction(
        random.standard_normal((steps, 4)).astype(np.float32), tuple(log.astype(np.float32) for log in logs)
    )


def said(steps: int = 6) -> np.ndarray:
    return np.random.RandomState(9).randint(0, 5, (steps, 3))


def test_figures_are_those_of_their_definitions() -> None:
    ours, theirs, drawn = random_prediction(0), random_prediction(1), said()
    found = compare(ours, theirs, drawn)
    for step in range(6):
        for stream in range(3):
            p, q = (np.exp(one.logs[stream][step].astype(np.float64)) for one in (ours, theirs))
            kl = sum(a * np.log(a / b) for a, b in zip(p, q, strict=True))
            assert found.kl[step, stream] == pytest.approx(kl, rel=1e-5)
            assert found.same[step, stream] == (np.argsort(p)[-1] == np.argsort(q)[-1])
            assert found.reference_loss[step, stream] == pytest.approx(-np.log(p[drawn[step, stream]]), rel=1e-5)
            assert found.loss[step, stream] == pytest.approx(-np.log(q[drawn[step, stream]]), rel=1e-5)
        apart = ours.hidden[step] - theirs.hidden[step]
        assert found.hidden[step] == pytest.approx(
            np.sqrt((apart**2).sum() / (ours.hidden[step] ** 2).sum()), rel=1e-5
        )
    assert 0 < found.same.mean() < 1


def test_a_model_is_no_distance_from_itself() -> None:
    found = compare(random_prediction(0), random_prediction(0), said())
    assert (found.kl == 0).all()
    assert (found.hidden == 0).all()
    assert (found.same == 1).all()
    assert (found.loss == found.reference_loss).all()


def test_tiny_differences_do_not_drown_in_rounding() -> None:
    ours = random_prediction(0, 200, (500,))
    nudged = ours.logs[0].astype(np.float64) + 1e-4 * np.random.RandomState(5).standard_normal((200, 500))
    nudged -= np.log(np.exp(nudged).sum(axis=-1, keepdims=True))
    p = np.exp(ours.logs[0].astype(np.float64))
    exact = (p * (ours.logs[0] - nudged)).sum(axis=-1).mean() - np.log(p.sum(axis=-1)).mean()
    theirs = Prediction(ours.hidden, (nudged.astype(np.float32),))
    found = compare(ours, theirs, np.zeros((200, 1), int)).kl
    assert (found >= 0).all()
    assert found.mean() == pytest.approx(5e-9, rel=0.1)  # half of the square of 1e-4
    assert exact == pytest.approx(5e-9, rel=0.1)


def test_changed_is_what_no_coupling_of_draws_can_avoid() -> None:
    def probabilities(logs: np.ndarray, stream: int) -> np.ndarray:
        return np.exp(logs)

    ours, theirs = random_prediction(0), random_prediction(1)
    found = compare(ours, theirs, said(), (probabilities, probabilities))
    alike = [np.minimum(np.exp(a), np.exp(b)).sum(axis=-1) for a, b in zip(ours.logs, theirs.logs, strict=True)]
    np.testing.assert_allclose(found.changed, 1 - np.stack(alike, axis=1), atol=1e-6)


def test_stretches_are_joined_in_order() -> None:
    parts = [compare(random_prediction(seed), random_prediction(seed + 10), said()) for seed in (0, 1)]
    joined = Differences.joined(parts)
    np.testing.assert_array_equal(joined.kl, np.concatenate([parts[0].kl, parts[1].kl]))
    assert joined.hidden.shape == (12,)


def test_the_interval_of_independent_steps_is_the_textbooks() -> None:
    values = np.random.RandomState(0).standard_normal(2000) + 3
    found = Bootstrap(2000, block=1).estimate(values)
    assert found.value == pytest.approx(values.mean())
    half = 1.96 * values.std() / np.sqrt(2000)
    assert (found.low, found.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.1 * half)


def test_steps_that_come_in_runs_are_less_sure() -> None:
    runs = np.repeat(np.random.RandomState(0).standard_normal(80), 25)
    single, blocks = (Bootstrap(2000, block=block).estimate(runs) for block in (1, 25))
    assert blocks.high - blocks.low > 3 * (single.high - single.low)


def test_blocks_are_neighbours() -> None:
    there_and_back = np.tile([1.0, -1.0], 500)
    found = Bootstrap(1000, block=10).estimate(there_and_back)
    assert (found.low, found.high) == pytest.approx((0, 0))


def test_functions_of_means_and_short_recordings() -> None:
    ours, theirs = np.full(7, 0.5), np.full(7, 1.5)
    found = Bootstrap(7).estimate(ours, theirs, of=lambda a, b: np.exp(b) - np.exp(a))
    wanted = np.exp(1.5) - np.exp(0.5)
    assert (found.value, found.low, found.high) == pytest.approx((wanted, wanted, wanted))
