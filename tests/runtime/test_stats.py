"""What a run is said to have cost."""

import pytest

from moshi_mlx.runtime.stats import LATELY, Stats


def run(encode: float, generate: float, decode: float) -> Stats:
    stats = Stats()
    for stage, seconds in zip(stats.stages.values(), (encode, generate, decode), strict=True):
        stage.add(seconds)
    return stats


def test_a_frame_costs_its_slowest_stage_with_threads_and_all_stages_without() -> None:
    assert run(0.02, 0.03, 0.01).frame_seconds(threaded=True) == pytest.approx(0.03)
    assert run(0.02, 0.03, 0.01).frame_seconds(threaded=False) == pytest.approx(0.06)
    assert Stats().frame_seconds(threaded=False) == 0


def test_what_a_frame_costs_is_what_it_cost_lately() -> None:
    stats = run(0.0, 0.01, 0.0)
    for _ in range(1000):
        stats.generate.add(0.01)
    for _ in range(LATELY):
        stats.generate.add(0.09)
    assert stats.frame_seconds(threaded=True) == pytest.approx(0.09)


def test_an_interrupted_run_has_lasted_until_then() -> None:
    stats = Stats()
    with pytest.raises(KeyboardInterrupt), stats.timed():
        raise KeyboardInterrupt
    assert stats.seconds > 0


def test_a_live_summary_does_not_speak_of_speed() -> None:
    stats = run(0.02, 0.03, 0.01)
    stats.seconds = 10.0
    assert stats.live_summary() == (
        "1 frames in 10.0 s; median of the 80 ms of a frame: encode 20.0 ms, generate 30.0 ms, decode 10.0 ms"
    )
