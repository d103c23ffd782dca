"""`moshi-mlx bench`, from the words of the command line to what it prints."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from moshi_mlx.bench import times
from moshi_mlx.checkpoint.checkpoint import Checkpoint
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
        (["--shape", "moshi-8b"], 1, "there is no shape 'moshi-8b'"),
        (["--shape", "moshi-tiny", "-q", "q3"], 1, "'q3'"),
        (["--shape", "moshi-tiny", "--context", "65", "--frames", "1"], 1, "a context of 65 is outside 0–64"),
        (["--context", "many"], 2, "many"),
        (["--context", "10,-5"], 2, "--context 10,-5"),
        (["--kv-bits", "4"], 2, "only 8 is possible"),
        (["--counts", "--paced", "--batch", "2", "--plot", "a.png"], 2, "leave out --plot, --paced, --batch"),
        (["--shape", "moshi-tiny", "--sustained", "10"], 2, "10m"),
        (["--model", "nano", "--random"], 2, "--random"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_words(
    moshi_cli: Cli, words: list[str], code: int, says: str
) -> None:
    done = moshi_cli("bench", *words)
    assert done.code == code
    assert says in done.err
