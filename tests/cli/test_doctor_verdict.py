"""What `moshi-mlx doctor` says first, and what it measures."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from moshi_mlx.cli import doctor as command
from moshi_mlx.doctor.probe import Probe
from moshi_mlx.doctor.report import Checkup
from tests.cli.conftest import Done
from tests.cli.test_doctor import CPU, GOOD, M2_PRO, line, verdict

Doctor = Callable[..., Done]


@pytest.mark.parametrize(
    ("checkup", "words", "code", "says"),
    [
        (GOOD, (), 0, "You can talk to: moshiko-q8, moshiko-q4, nano"),
        (GOOD, ("--model", "moshiko-q4"), 0, "You can talk to: moshiko-q4"),
        (GOOD, ("--model", "moshiko-bf16"), 1, "You cannot talk to moshiko-bf16 here: no model both fits"),
        (GOOD, ("--model", "personaplex"), 1, "You cannot talk to personaplex here: no model both fits"),
        (GOOD, ("--model", "/no/model"), 1, "You cannot talk to /no/model here: /no/model does not exist"),
        (replace(GOOD, mlx=Probe(problem="MLX is broken")), (), 1, "Nothing runs here yet: MLX is broken"),
        (replace(GOOD, machine=replace(M2_PRO, chip="Apple M2")), (), 0, "You can talk to: moshiko-q4, nano"),
        (replace(GOOD, machine=replace(M2_PRO, chip="Apple M1")), (), 0, "You can talk to: nano"),
        (
            replace(GOOD, machine=replace(M2_PRO, chip="Apple M9")), ("-m", "moshiko-q4"), 0,
            "You can talk to: moshiko-q4 (if it is fast enough: --measure)",
        ),
        (CPU, (), 0, "No microphone and speaker here, but in a browser or with recordings you can talk to: nano"),
    ],
    ids=lambda one: None if isinstance(one, Checkup) else str(one),
)  # fmt: skip
def test_the_verdict_comes_first(
    doctor: Doctor, checkup: Checkup, words: tuple[str, ...], code: int, says: str
) -> None:
    done = doctor(checkup, *words)
    assert done.code == code
    assert verdict(done).startswith(says)
    told = json.loads(doctor(checkup, *words, "--json").out)
    assert told["verdict"] == verdict(done)
    assert bool(told["talk_to"]) >= (code == 0)


def test_a_model_that_is_not_here_is_not_judged_by_the_size_of_moshi(
    doctor: Doctor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    done = doctor(GOOD, "--model", "hibiki-1b")
    assert done.code == 1
    assert "hibiki-1b is not on this machine, so its size is not known" in verdict(done)


def test_measured_times_count_more_than_estimates(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[tuple[str, ...]] = []
    slow: dict[str, float] = {"nano": 20.0, "q8": 90.0, "moshiko-q4": 50.0}

    def run(python: str, program: str, *words: str, timeout: float) -> Probe:
        ran.append(words)
        ms = next(slow[word] for word in words if word in slow)
        frames = [{"p50_ms": ms - 5, "p99_ms": one} for one in (ms / 2, ms)]
        return Probe({"passed": ms <= 80, "runs": [{"frame": frame} for frame in frames]})

    monkeypatch.setattr(command, "run_python", run)
    done = doctor(GOOD, "--measure")
    assert verdict(done) == "You can talk to: moshiko-q4, nano"
    assert [words[:3] for words in ran] == [
        ("--model", "nano", "--offline"),
        ("--random", "-q", "q8"),  # not in the cache
        ("--model", "moshiko-q4", "--offline"),
    ]
    rows = [text.strip() for text in done.out.partition("Measured\n")[2].splitlines()[:3]]
    assert rows[1] == "✗ moshiko-q8       85 ms a frame, 99 % within 90 of 80 ms: too slow"
    assert [row[0] for row in rows] == ["✓", "✗", "✓"]
    slow.update(nano=200.0)
    done = doctor(CPU, "--measure")
    assert (done.code, verdict(done)) == (1, "Nothing runs here yet: not even Nano keeps time here")
    monkeypatch.setattr(command, "run_python", lambda *words, **how: Probe(problem="killed"))
    done = doctor(CPU, "--measure")
    assert (done.code, line(done, "nano")) == (0, "! nano             it could not be measured: killed")


@pytest.mark.slow
def test_measuring_really_measures(doctor: Doctor, tiny_folder: Path) -> None:
    done = doctor(CPU, "--measure", "--model", str(tiny_folder), "--json")
    (measured,) = json.loads(done.out)["measured"]
    assert measured["model"] == str(tiny_folder)
    assert 0 < measured["ms"] <= measured["p99_ms"]
    assert done.err == f"measuring {tiny_folder}\n"
