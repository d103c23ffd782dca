"""Figures, differences and verdicts of samples that are known."""

import math

import numpy as np
import pytest

from moshi_mlx.quality.behaviour import measures
from moshi_mlx.quality.behaviour.answer import Answer
from moshi_mlx.quality.behaviour.measures import MEASURES, accuracy, measure
from moshi_mlx.quality.behaviour.scene import Scene
from moshi_mlx.quality.behaviour.summary import Behaviour, Key, Place, deltas, differences, summed_up, verdict
from moshi_mlx.tasks.words import Word

TURN: Place = ("smooth_turn_taking", "clean")
SILENCE = np.zeros(16_000 * 10, np.float32)


def behaviour(name: str, **columns: list[float]) -> Behaviour:
    count = len(next(iter(columns.values())))
    samples = {str(one): {key: values[one] for key, values in columns.items()} for one in range(count)}
    return summed_up(name, {TURN: samples})


def key(measure: str, statistic: str = "mean") -> Key:
    return Key(*TURN, measure, statistic)


def test_figures_are_means_medians_and_percentiles_of_what_is_known() -> None:
    latencies = [0.3, math.nan, 0.1, 0.5, 0.2, math.nan, 0.9]
    figures = behaviour("a", latency=latencies, takeover=[1, 0, 1, 1, 1, 0, 1]).figures
    assert figures[key("takeover")].estimate.value == pytest.approx(5 / 7)
    assert figures[key("takeover")].samples == 7
    assert figures[key("latency")].samples == 5
    known = np.array([0.1, 0.2, 0.3, 0.5, 0.9])
    for statistic, value in (("mean", known.mean()), ("median", 0.3), ("p90", np.quantile(known, 0.9))):
        found = figures[key("latency", statistic)].estimate
        assert found.value == pytest.approx(value)
        assert 0.1 <= found.low < found.value <= found.high <= 0.9
    assert key("takeover", "median") not in figures


def test_the_interval_of_a_mean_is_as_wide_as_its_standard_error_says() -> None:
    values = np.random.RandomState(1).standard_normal(400).tolist()
    found = behaviour("a", latency=values).figures[key("latency")].estimate
    expected = 2 * 1.96 * np.std(values) / 20
    assert found.high - found.low == pytest.approx(expected, rel=0.1)


def test_nothing_known_is_no_figure_but_no_error() -> None:
    one = behaviour("a", latency=[math.nan, math.nan])
    assert one.figures[key("latency")].samples == 0
    assert math.isnan(one.figures[key("latency")].estimate.value)
    assert deltas(one, one) == {}


def test_differences_are_of_the_same_samples() -> None:
    easy_and_hard = np.random.RandomState(0).uniform(0, 10, 40)
    one = behaviour("a", latency=easy_and_hard.tolist())
    two = behaviour("b", latency=(easy_and_hard + 0.1).tolist())
    found = deltas(one, two)[key("latency")]
    assert (found.value, found.low, found.high) == pytest.approx((0.1, 0.1, 0.1))
    assert one.figures[key("latency")].estimate.high > two.figures[key("latency")].estimate.low


def test_a_verdict_names_what_is_beyond_doubt_and_which_way_is_better() -> None:
    random = np.random.RandomState(0)
    latency = random.uniform(0.2, 0.4, 60)
    took = np.ones(60)
    one = behaviour("bf16", latency=latency.tolist(), takeover=took.tolist(), talk=[0.5] * 60)
    same = behaviour(
        "q8", latency=(latency + 0.01 * random.randn(60)).tolist(), takeover=took.tolist(), talk=[0.5] * 60
    )
    took[:20] = 0
    slow = behaviour("q4", latency=(latency + 0.3).tolist(), takeover=took.tolist(), talk=[0.4] * 60)
    assert differences(one, same) == {}
    assert verdict(one, same) == "q8: no difference from bf16 is beyond doubt in 60 samples"
    said = verdict(one, slow)
    assert "worse: smooth turn taking, takeover rate -0.33" in said
    assert "worse: smooth turn taking, latency +0.3 s" in said
    assert "; smooth turn taking, the model speaks -0.1" in said, "which way is better is a matter of taste"
    assert "better: smooth turn taking, latency -0.3 s" in verdict(slow, one)


def test_few_samples_leave_doubt() -> None:
    for count, sure in ((9, False), (10, True)):
        one, two = (behaviour(name, talk=[value] * count) for name, value in (("a", 0.1), ("b", 0.9)))
        assert bool(differences(one, two)) is sure


def test_many_figures_make_chance_no_difference() -> None:
    found = 0
    for seed in range(20):
        random = np.random.RandomState(seed)
        names = [one.name for one in MEASURES]
        one, two = (behaviour("a", **{name: random.randn(30).tolist() for name in names}) for _ in range(2))
        found += bool(differences(one, two))
    assert found <= 4, "1 of 20 by chance"


def test_right_answers_are_found_in_what_is_said_afterwards() -> None:
    words = [Word("Two", 0.5, 0.7), Word("It's", 1.0, 1.2), Word("twenty-four,", 1.2, 1.5), Word("forty", 2, 2.2)]
    assert accuracy([["Twenty-Four", "24"]], words) == 1
    assert accuracy([["it's twenty-four"], ["forty two"]], words) == 0.5
    assert accuracy([["four"]], words) == 0
    scene = Scene("smooth_turn_taking", "1", turn_end=0.9, answers=(("two",), ("forty",)))
    assert measure(scene, Answer(SILENCE, tuple(words)), [], [])["accuracy"] == 0.5


def test_each_task_has_its_own_measures() -> None:
    words = (Word("yes", 4.0, 4.5), Word("of", 4.5, 5.0), Word("course", 5.0, 5.5))
    answer = Answer(SILENCE, words)
    user, model = [(1.0, 3.0)], [(2.5, 3.2), (3.6, 5.5)]
    general = {"overlap", "talk", "words_per_minute"}

    found = measure(Scene("pause_handling", "1"), answer, user, model)
    assert found.keys() == general | {"takeover", "takeover_kyutai"}
    assert found["overlap"] == pytest.approx(0.05)
    assert found["talk"] == pytest.approx(0.3), "a gap of 0.4 s is no silence"

    found = measure(Scene("smooth_turn_taking", "1", turn_end=3.0), answer, user, model)
    assert found.keys() == general | {"takeover", "takeover_kyutai", "latency", "response"}
    assert found["latency"] == 1.0
    assert math.isnan(found["response"]), "the voice began before"

    interrupted = Scene("user_interruption", "1", interruption=(2.0, 3.0))
    found = measure(interrupted, answer, user, model)
    assert found["stop"] == pytest.approx(0.5)
    assert found["latency"] == 1.0
    before = [(0.2, 0.9), *user], [(0.0, 0.9), *model]
    assert measure(interrupted, answer, *before)["stop"] == pytest.approx(0.5), "of the interruption alone"

    found = measure(Scene("backchannel", "1", human=(1.0, 1.0)), answer, user, [(4.0, 4.5)])
    assert found.keys() == general | {"takeover", "frequency", "divergence"}
    assert found["frequency"] == 0.1
    assert "divergence" not in measure(Scene("backchannel", "1"), answer, user, model)

    found = measure(Scene("silence", "1"), answer, [], model)
    assert (found["silent"], found["first_word"]) == (0, 4.0)
    found = measure(Scene("silence", "1"), Answer(SILENCE, ()), [], [])
    assert (found["silent"], found["first_word"], found["takeover"]) == (1, 10.0, 0)
    assert math.isnan(found["words_per_minute"])


def test_every_measure_is_described() -> None:
    names = [one.name for one in MEASURES]
    assert len(set(names)) == len(names)
    assert next(one for one in MEASURES if one.name == measures.TAKEOVER).better_in("pause_handling") == "lower"
    assert (
        next(one for one in MEASURES if one.name == measures.TAKEOVER).better_in("smooth_turn_taking") == "higher"
    )
