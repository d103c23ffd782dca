"""The trace holds every pass through every stage, and can be opened at any moment."""

import json
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from moshi_mlx.audio.echo.control import TracedEcho
from moshi_mlx.audio.file_stream import FileSource
from moshi_mlx.errors import AudioFileError
from moshi_mlx.runtime.engine import converse
from moshi_mlx.runtime.moshi import Moshi
from moshi_mlx.runtime.reply import Reply
from moshi_mlx.runtime.stats import Stats
from moshi_mlx.runtime.trace import FLUSH_EVENTS, Trace


class Nobody:
    """A sink that forgets."""

    def write(self, reply: Reply) -> None:
        del reply


def test_a_conversation_leaves_its_stages(tiny_moshi: Moshi, tmp_path: Path) -> None:
    began = time.perf_counter()
    trace, stats = Trace(tmp_path / "t.json"), Stats()
    trace.watch(stats)
    with tiny_moshi.session(seed=1) as session:
        source = FileSource(np.zeros(5 * 1920, np.float32), 0, 0)
        assert converse(session, source, Nobody(), stats) is stats
    seconds = time.perf_counter() - began
    trace.mark("reset")
    trace.level("lag", ms=80.0)
    trace.close()
    *events, end = json.loads((tmp_path / "t.json").read_text())
    assert end == {}
    spans = [event for event in events if event["ph"] == "X"]
    for name, stage in stats.stages.items():
        mine = [event for event in spans if event["name"] == name]
        assert len(mine) == stage.count == 6
        assert sum(event["dur"] for event in mine) == pytest.approx(stage.total * 1e6, abs=6)
        assert all(0 <= event["ts"] <= seconds * 1e6 for event in mine)
    assert [event["ph"] for event in events[-2:]] == ["i", "C"]
    assert events[-1]["args"] == {"ms": 80.0}


def test_the_echo_canceller_is_in_it_and_does_its_work(tmp_path: Path) -> None:
    class Halving:
        resets = 0

        def process(self, near: np.ndarray, far: np.ndarray) -> np.ndarray:
            return near - far / 2

        def reset(self) -> None:
            self.resets += 1

    halving, trace = Halving(), Trace(tmp_path / "t.json")
    traced = TracedEcho(halving, trace)
    one = np.ones(1920, np.float32)
    np.testing.assert_array_equal(traced.process(3 * one, 2 * one), 2 * one)
    traced.reset()
    trace.close()
    span, _ = json.loads((tmp_path / "t.json").read_text())
    assert (span["name"], span["ph"]) == ("echo", "X")
    assert halving.resets == 1


def test_it_is_on_disk_before_the_end(tmp_path: Path) -> None:
    trace = Trace(tmp_path / "t.json")
    for index in range(FLUSH_EVENTS):
        trace.stage("encode", time.perf_counter(), 0.001 * index)
    lines = (tmp_path / "t.json").read_text().splitlines()
    assert len(lines) == 1 + FLUSH_EVENTS
    assert json.loads(lines[-1].rstrip(","))["dur"] == 1000 * (FLUSH_EVENTS - 1)
    trace.close()


def test_threads_write_whole_lines(tmp_path: Path) -> None:
    trace = Trace(tmp_path / "t.json")
    threads = [
        threading.Thread(target=lambda: [trace.mark("x" * 500) for _ in range(300)], name=f"stage {index}")
        for index in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    trace.close()
    trace.close()
    trace.mark("too late")  # a stage may end after the file: no error
    *events, _ = json.loads((tmp_path / "t.json").read_text())
    assert len(events) == 900
    assert {event["tid"] for event in events} == {f"stage {index}" for index in range(3)}


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(AudioFileError, match=r"cannot write .*none/t\.json: No such file"):
        Trace(tmp_path / "none" / "t.json")


def test_a_full_disk_at_the_end_is_one_line(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    trace = Trace("/dev/full")
    trace.mark("reset")
    with pytest.raises(AudioFileError, match=r"cannot write /dev/full: No space left on device"):
        trace.close()
    trace.close()
