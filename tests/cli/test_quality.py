"""`moshi-mlx quality`, from the words of the command line to what it prints."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from moshi_mlx.checkpoint.random_checkpoint import write_random_checkpoint
from tests.cli.conftest import Done
from tests.quantize.conftest import SMALL

pytestmark = pytest.mark.slow

Cli = Callable[..., Done]


def test_candidates_are_a_table(moshi_cli: Cli, tiny_folder: Path, question: Path) -> None:
    done = moshi_cli("quality", tiny_folder, "q8", "q4", "--audio", question)
    assert done.code == 0
    assert done.err == ""
    lines = [line.split() for line in done.out.splitlines() if line]
    rows = [line[0] for line in lines if line[0] in ("q8", "q4")]
    assert rows == ["q8", "q4"] * 3, "sizes, agreement, times"
    assert {len(line) <= 80 for line in done.out.splitlines() if not line.startswith("compared with")} == {True}
    assert re.fullmatch(r"q8: [a-z ]+; q4: [a-z ]+|q8, q4: [a-z ]+", done.out.splitlines()[0])
    assert "code 7" not in done.out


def test_one_candidate_is_shown_stream_by_stream(moshi_cli: Cli, tiny_folder: Path, question: Path) -> None:
    done = moshi_cli("quality", tiny_folder, "q4+codec=mlx", "--audio", question, "--audio", question)
    assert done.code == 0
    assert "2 conversations" in done.out
    assert "code 7" in done.out
    assert "q4+codec=mlx: 100.0% of the user's codes are the same" in done.out


def test_json_has_every_figure_and_the_picture_is_drawn(
    moshi_cli: Cli, tiny_folder: Path, question: Path, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra: plots)")
    picture = tmp_path / "kl.png"
    done = moshi_cli("quality", tiny_folder, "bf16", "q4", "--audio", question, "--json", "--plot", picture)
    assert done.code == 0
    same, q4 = json.loads(done.out)["candidates"]
    assert same["kl"] == {"value": 0, "low": 0, "high": 0}
    assert len(q4["streams"]) == 9
    assert same["verdict"] == "the same"
    assert q4["frame_ms"]["M4 Max"] > 5
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert done.err.splitlines() == [f"plot in {picture}"]


def test_figures_go_into_the_card_of_what_was_made(
    moshi_cli: Cli, tiny_folder: Path, question: Path, tmp_path: Path
) -> None:
    made = tmp_path / "made"
    assert moshi_cli("quantize", tiny_folder, made, "--recipe", "q8", "--quiet").code == 0
    done = moshi_cli("quality", tiny_folder, made, "kv8+q4", "--audio", question, "--card")
    assert done.code == 1  # heads of 16 channels have no int8 window
    assert "int8" in done.err
    done = moshi_cli("quality", tiny_folder, made, "q4", "--audio", question, "--card")
    assert done.code == 0
    card = (made / "README.md").read_text()
    assert "KL divergence, nats a step" in card
    assert "Not measured" not in card


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["q4", "--audio", "missing.wav"], "missing.wav does not exist"),
        (["q4", "--plot", "a.txt"], "a name that ends in .png"),
        (["q4", "--plot", "nowhere/a.png"], "there is no folder"),
        (["q4+q8"], "neither its only checkpoint or recipe nor"),
        (["top_p=-1"], "top_p is -1.0"),
        (["missing.json"], "cannot read the recipe missing.json"),
        (["q7"], "there is no model 'q7'"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(
    moshi_cli: Cli, tiny_folder: Path, words: list[str], says: str
) -> None:
    done = moshi_cli("quality", tiny_folder, *words)
    assert done.code == (1 if "--audio" in words or "--plot" in words else 2)
    assert says in done.err
    assert done.err.count("\n") == 1


def test_without_matplotlib_a_picture_is_refused_first(
    moshi_cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = moshi_cli("quality", "no-such-model", "q4", "--plot", tmp_path / "a.png")
    assert done.code == 1
    assert done.err == "error: --plot needs matplotlib, which is not installed: pip install 'moshi-mlx[plots]'\n"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that is quick to search."""
    return write_random_checkpoint(tmp_path_factory.mktemp("small") / "small", SMALL, dtype="bfloat16")


def test_a_budget_and_calibration_are_options_of_quantize(
    moshi_cli: Cli, small: Path, question: Path, tmp_path: Path
) -> None:
    made = tmp_path / "made"
    done = moshi_cli("quantize", small, made, "--budget", "300kB", "--calibrate", "--audio", question, "--json")
    assert done.code == 0
    assert json.loads(done.out)["recipe"] == "mixed, 0.3 MB, calibrated"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--budget", "much"], "a size such as 4.2GB"),
        (["--budget", "1GB", "--recipe", "q4"], "leave --recipe and its numbers out"),
        (["--calibrate", "--lora", "x"], "merge the adapter first"),
        (["--audio", "a.wav"], "--audio is what --budget and --calibrate"),
        (["--budget", "1kB"], "the smallest recipe needs"),
    ],
)
def test_budgets_that_cannot_be_are_refused_in_one_line(
    moshi_cli: Cli, small: Path, question: Path, tmp_path: Path, words: list[str], says: str
) -> None:
    audio = ["--audio", question] if words == ["--budget", "1kB"] else []
    done = moshi_cli("quantize", small, tmp_path / "made", *words, *audio)
    assert done.code == (1 if "1kB" in words else 2)
    assert says in done.err
    assert done.err.count("\n") == 1
    assert not (tmp_path / "made").exists()
