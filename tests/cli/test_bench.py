"""`moshi-mlx bench`, from the words of the command line to what it prints."""

import csv
import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from moshi_mlx.bench import times
from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.cli.bench import Countdown
from moshi_mlx.models import add_norm
from tests.cli.conftest import Done

Cli = Callable[..., Done]


@pytest.mark.slow
def test_a_checkpoint_is_measured_with_its_codec(moshi_cli: Cli, tiny_folder: Path) -> None:
    done = moshi_cli("bench", "-m", tiny_folder, "--codec", "mlx", "--frames", 3, "--context", "0,30", "--json")
    assert done.code == 0
    report = json.loads(done.out)
    assert report["model"] == {
        "name": str(tiny_folder),
        "kind": "not quantized",
        "kv_bits": None,
        "random": False,
        "parameter_bytes": report["model"]["parameter_bytes"],
        "activations": "float32",
        "tokens_per_frame": 9,
        "ready_seconds": report["model"]["ready_seconds"],
        "own_kernels": [str(trial) for trial in add_norm.trials.values()],  # none without Metal
    }
    assert [(run["context"], run["codec"], run["mode"]) for run in report["runs"]] == [
        (0, "mlx", "burst"),
        (30, "mlx", "burst"),
    ]
    assert all(run["stages"]["decode"]["p50_ms"] > 0 for run in report["runs"])


def test_reports_are_compared(moshi_cli: Cli, tmp_path: Path) -> None:
    paths = []
    for name, kind in (("a.json", "q4"), ("b.json", "f32")):
        done = moshi_cli("bench", "--shape", "moshi-tiny", "-q", kind, "--frames", 2, "--json")
        paths.append(tmp_path / name)
        paths[-1].write_text(done.out)
    done = moshi_cli("bench", "--compare", *paths)
    assert done.code == 0
    assert "A: moshi-tiny q4" in done.out
    assert "frame p50 ms" in done.out
    refused = moshi_cli("bench", "--compare", *paths, "--gate", "--json")
    assert refused.code == 2
    assert "leave out --json, --gate" in refused.err


TINY = ("--shape", "moshi-tiny", "--frames", 2)


def test_an_empty_and_a_full_window_are_measured_unless_told_otherwise(moshi_cli: Cli) -> None:
    report = json.loads(moshi_cli("bench", *TINY, "--json").out)
    assert [run["context"] for run in report["runs"]] == [0, 64]
    assert report["passed"] == all(run["passed"] for run in report["runs"])
    sustained = json.loads(moshi_cli("bench", *TINY, "--sustained", "0.2s", "--json").out)
    assert [run["context"] for run in sustained["runs"]] == [0]


def test_a_gate_fails_by_the_worst_of_all_runs(moshi_cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = times.measure

    def judged(late: list[bool]) -> Callable[..., object]:
        return lambda *words: {**measured(*words), "passed": not late.pop(0)}

    for late, code, verdict in (([False] * 4, 0, "PASS"), ([False, True, False, False], 1, "FAIL")):
        monkeypatch.setattr(times, "measure", judged(late))
        done = moshi_cli("bench", *TINY, "--repeat", 2, "--gate")
        assert not late
        assert (done.code, done.out.splitlines()[-1][:4]) == (code, verdict)
    monkeypatch.setattr(times, "measure", judged([True]))
    assert moshi_cli("bench", *TINY, "--context", 0).code == 0, "without --gate it only says so"


def test_the_spread_of_repetitions_and_the_load_are_shown(moshi_cli: Cli) -> None:
    done = moshi_cli("bench", *TINY, "--repeat", 3, "--batch", 2, "--context", 0)
    assert "the middle one of 3 runs" in done.out
    assert re.search(r"frame p50 ms, all runs +[\d.]+ to [\d.]+ \([\d.]+%\)", done.out)
    assert re.search(r"load before: [\d.]+ of \d+ cores", done.out)
    assert "frames/s (25 needed)" in done.out
    assert re.search(r"\n3 runs of 2 frames, about \d+ s\n", done.err)
    once = moshi_cli("bench", *TINY, "--context", 0).out
    assert "all runs" not in once
    assert "frames/s (12.5 needed)" in once


def test_the_report_as_markdown_and_as_csv(moshi_cli: Cli) -> None:
    done = moshi_cli("bench", *TINY, "--markdown")
    rows = [line.split(" | ") for line in done.out.splitlines() if line.startswith("|")]
    assert {len(row) for row in rows} == {3}
    assert rows[0] == ["| ", "burst @0", "burst @64 |"]
    assert rows[1] == ["| ---", "---:", "---: |"]
    done = moshi_cli("bench", *TINY, "--csv")
    lines = list(csv.DictReader(done.out.splitlines()))
    assert [(line["model"], line["kind"], line["context"]) for line in lines] == [
        ("moshi-tiny", "q4", "0"),
        ("moshi-tiny", "q4", "64"),
    ]
    assert float(lines[0]["frames_per_second"]) > 0
    assert moshi_cli("bench", *TINY, "--csv", "--json").code == 2


@pytest.mark.parametrize(("given", "kind"), [("4", "q4"), ("q4", "q4"), ("Q8", "q8"), ("bf16", "bf16")])
def test_q_has_one_spelling_everywhere(moshi_cli: Cli, tiny_q4: Path, given: str, kind: str) -> None:
    words = ("--context", 0, "--json", "-q", given)
    assert json.loads(moshi_cli("bench", *TINY, *words).out)["model"]["kind"] == kind
    done = moshi_cli("bench", "-m", tiny_q4, "--frames", 1, "--codec", "none", *words)
    assert (done.code == 0) == (kind == "q4")
    if kind != "q4":
        assert f"-q asks for {kind}" in done.err


def test_on_a_terminal_it_counts_down(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 0.5, 2.0, 2.5, 4.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    tell = Countdown(sys.stdout)
    for share in (0.1, 0.25, 0.3, 1.0):
        tell(share)
    assert capsys.readouterr().out == "\r\x1b[K 25%, 6 s left\r\x1b[K"


@pytest.mark.parametrize(
    "words", [["--shape", "moshi-7b", "--context", "3001"], ["-m", "nano", "--context", "1000000"]]
)
def test_what_a_model_cannot_follow_is_refused_before_it_is_loaded(
    moshi_cli: Cli, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(times, "random_lm", None)
    monkeypatch.setattr(Checkpoint, "load_codec", None)
    done = moshi_cli("bench", *words)
    assert done.code == 1
    assert f"a context of {words[-1]}" in done.err


def test_bytes_are_counted_for_the_contexts_asked_for(moshi_cli: Cli) -> None:
    words = ["--counts", "--shape", "moshi-tiny", "--frames", 4, "--json"]
    counts = json.loads(moshi_cli("bench", *words, "--context", "20,40").out)["counts"]
    assert {context: bytes["keys_values"] for context, bytes in counts["traffic"].items()} == {
        "20": 20 * 2 * 2 * 64 * 2,  # 2 layers of 64 channels, bfloat16
        "40": 40 * 2 * 2 * 64 * 2,
    }


@pytest.mark.slow
def test_counts_of_a_small_shape(moshi_cli: Cli) -> None:
    done = moshi_cli("bench", "--counts", "--shape", "moshi-tiny", "--frames", 20)
    assert done.code == 0
    assert "moshi_mlx 0.3.0" not in done.out  # its counts are of another shape
    assert "traces in 20 frames after warm-up" in done.out


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--shape", "moshi-8b"], 2, "there is no shape 'moshi-8b'"),
        (["--shape", "moshi-tiny", "-q", "q3"], 2, "'q3'"),
        (["--shape", "moshi-tiny", "--context", "65", "--frames", "1"], 1, "a context of 65 is outside 0–64"),
        (["--context", "many"], 2, "many"),
        (["--context", "10,-5"], 2, "--context 10,-5"),
        (["--kv-bits", "4"], 2, "only 8 is possible"),
        (["--counts", "--paced", "--batch", "2", "--plot", "a.png"], 2, "leave out --plot, --paced, --batch"),
        (["--counts", "--gate", "--repeat", "2", "--csv"], 2, "leave out --gate, --csv, --repeat"),
        (["--shape", "moshi-tiny", "--sustained", "10"], 2, "10m"),
        (["--shape", "moshi-tiny", "--sustained", "0s"], 2, "10m"),
        (["--model", "nano", "--random"], 2, "--random"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_words(
    moshi_cli: Cli, words: list[str], code: int, says: str
) -> None:
    done = moshi_cli("bench", *words)
    assert done.code == code
    assert says in done.err
