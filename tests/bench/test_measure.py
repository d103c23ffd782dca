"""Measuring: the right frames are run and timed. No test looks at how long they took."""

from contextlib import ExitStack

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.bench.measure import Workload, by_the_minute, fill, frame_seconds, measure
from moshi_mlx.bench.parts import measure_parts
from moshi_mlx.bench.shapes import narrowed, random_lm
from moshi_mlx.checkpoint.random_checkpoint import TINY
from moshi_mlx.errors import ConfigError
from moshi_mlx.models.config import LmConfig
from moshi_mlx.runtime.moshi import Moshi
from moshi_mlx.runtime.stats import Stats
from moshi_mlx.runtime.wordless import wordless


@pytest.fixture(scope="module")
def moshi() -> Moshi:
    return wordless(random_lm(LmConfig.from_dict(TINY), "f32"))


@pytest.mark.parametrize("batch", [1, 3])
def test_every_frame_is_measured_in_every_stage(moshi: Moshi, batch: int) -> None:
    run = measure(moshi, Workload(frames=7, batch=batch))
    assert (run["mode"], run["batch"], run["codec"], run["frames"]) == ("burst", batch, "none", 7)
    assert set(run["stages"]) == {"encode", "generate", "decode", "host"}
    assert run["frames_per_second"] == pytest.approx(7 * batch / run["seconds"], rel=0.05)  # seconds are rounded
    assert run["tokens_per_second"] == pytest.approx(9 * run["frames_per_second"], rel=0.05)
    assert 0 < run["stages"]["host"]["p50_ms"] <= run["stages"]["generate"]["max_ms"] <= run["frame"]["max_ms"]


@pytest.mark.parametrize("batch", [1, 3])
def test_generate_is_measured_in_parts(moshi: Moshi, batch: int) -> None:
    with ExitStack() as stack:
        together = moshi.batch(batch)
        sessions = [stack.enter_context(together.join(seed=row)) for row in range(batch)]
        parts = measure_parts(sessions, 4)
        assert [session.delays.step for session in sessions] == [4] * batch
    assert {name: times.count for name, times in parts.items()} == {"temporal": 4, "depth": 4, "sampling": 4}
    assert all(seconds > 0 for times in parts.values() for seconds in times.recent)
    assert moshi.step.watch is None, "nobody waits afterwards"


def test_waiting_for_parts_does_not_change_what_is_said(moshi: Moshi) -> None:
    codes = np.random.RandomState(3).randint(0, moshi.lm.config.card, (6, 8))
    said = []
    for watch in (None, mx.eval):
        moshi.step.watch = watch
        with moshi.session(seed=1) as session:
            said.append([session.generate(frame).text_id for frame in codes])
    moshi.step.watch = None
    assert said[0] == said[1]


def test_the_time_of_every_frame_is_kept_when_asked_for(moshi: Moshi) -> None:
    assert measure(moshi, Workload(frames=5))["frame_ms"] is None
    run = measure(moshi, Workload(frames=5, keep=True))
    assert len(run["frame_ms"]) == 5
    assert max(run["frame_ms"]) == run["frame"]["max_ms"]


def test_a_paced_run_takes_the_time_of_its_frames(moshi: Moshi) -> None:
    run = measure(moshi, Workload(frames=4, paced=True))
    assert run["mode"] == "paced"
    assert run["seconds"] > 3 * 0.08
    assert run["series"] == [run["frame"]]


def test_long_runs_are_told_by_the_minute() -> None:
    minutes = by_the_minute([0.01] * 750 + [0.02] * 750 + [0.03])
    assert [minute["p50_ms"] for minute in minutes] == [10, 20, 30]


def test_bytes_grow_with_the_window_up_to_its_size(moshi: Moshi) -> None:
    def kv(context: int) -> int:
        return measure(moshi, Workload(frames=2, context=context))["kv_bytes_per_frame"]

    position = 2 * 2 * 64 * 4  # keys and values, 2 layers of 64 channels, float32
    assert kv(20) == 21.5 * position  # 20 past positions and the frame's own, then 21
    assert kv(64) == 64 * position


def test_a_filled_window_is_attended_to() -> None:
    lm = random_lm(LmConfig.from_dict(TINY), "f32")
    batch = wordless(lm).batch(1)
    with batch.join(seed=0) as session:
        fill(batch, 30)
        state = batch._state.temporal
        assert state.position == 30
        session.generate(np.zeros(8, np.int32))
        assert state.position == 31
        assert state.running[0].sum() == 31
        assert all(np.abs(np.array(array)[:, :, 29]).max() > 0.5 for array in state.arrays())


def test_overlapping_stages_cost_the_slowest_others_their_sum() -> None:
    stats = Stats()
    for frame in ((1.0, 3.0, 2.0), (5.0, 2.0, 2.0)):
        for stage, seconds in zip(stats.stages.values(), frame, strict=True):
            stage.add(seconds)
    assert frame_seconds(stats, threaded=True) == [3, 5]
    assert frame_seconds(stats, threaded=False) == [6, 9]


@pytest.mark.parametrize(
    "workload", [Workload(context=65), Workload(context=-1), Workload(frames=0), Workload(batch=0)]
)
def test_an_impossible_workload_is_refused(moshi: Moshi, workload: Workload) -> None:
    with pytest.raises(ConfigError):
        measure(moshi, workload)


def test_a_narrowed_shape_keeps_layers_and_streams() -> None:
    wide, narrow = LmConfig.from_dict(TINY), LmConfig.from_dict(narrowed(TINY, 32))
    assert narrow.transformer.dim == 32
    assert (narrow.transformer.num_layers, narrow.n_q, narrow.dep_q) == (wide.transformer.num_layers, 16, 8)
