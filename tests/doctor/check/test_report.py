"""The check as a process of its own: what is said of it, whatever becomes of it."""

import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.doctor.check import report
from moshi_mlx.doctor.check.comparison import Case, Noise, difference, judge, on_gpu
from moshi_mlx.doctor.check.conversation import GOLDEN, Golden
from moshi_mlx.doctor.check.layers import _product
from moshi_mlx.doctor.check.report import CheckReport, run_check
from moshi_mlx.doctor.check.shapes import SMALL
from moshi_mlx.doctor.check.worker import cases, fair

RIGHT = {"status": "right", "error": 1e-3, "tolerance": 1e-2, "seconds": 0.1, "problem": "", "known": ""}


def case(operation: str, **more: Any) -> dict[str, Any]:
    return {"operation": operation, "detail": f"bf16 {operation}", **RIGHT, **more}


def fake_python(folder: Path, *lines: dict[str, Any], after: str = "") -> str:
    """A program in place of Python that says these lines, then does something else."""
    path = folder / "python"
    said = "\n".join(json.dumps(line) for line in lines)
    path.write_text(f"#!{sys.executable}\nimport os, sys\nprint('''{said}''', flush=True)\n{after}\n")
    path.chmod(0o755)
    return str(path)


HEAD = {"cases": 4, "device": "Device(gpu, 0)", "mlx": "0.40.0"}


def test_the_quick_check_is_right_here() -> None:
    seen: list[tuple[int, int]] = []
    made = run_check("quick", lambda done, of: seen.append((done, of)))
    assert made.problem == "", made.problem
    assert made.ok
    assert made.left_out or seen[-1][0] == seen[-1][1] > 150
    names = {one["operation"] for one in made.outcomes}
    assert {"RMS norm", "int8 window", "convolution", "compiled temporal transformer", "sampling"} <= names
    assert [one.mark for one in made.findings() if one.mark == "bad"] == []
    assert json.loads(json.dumps(made.as_json()))["ok"]


def test_bfloat16_beside_quantized_weights_is_found_and_explained_on_a_cpu() -> None:
    if on_gpu():
        pytest.skip("a GPU adds up in float32")
    (one,) = [
        case
        for case in cases(SMALL)
        if case.known and case.detail.startswith("q4 ") and case.operation == "quantized matrix product"
    ]
    outcome = judge(one)
    assert outcome.status == "known"
    assert (outcome.error or 0) > outcome.tolerance
    wide = difference(*_product((4096, 64), "q4", mx.bfloat16, (1,), 64, Noise(0)))
    assert 0.05 < wide < 0.5, "MLX's CPU backend has changed: is float32 still needed beside quantized weights?"
    said = [one.text for one in CheckReport("full", "0.32.4", "cpu", [vars(outcome)]).findings()]
    assert len(said) == 1
    assert "expected. MLX's CPU backend adds up" in said[0]


def test_the_first_that_differs_is_named_with_what_to_do(tmp_path: Path) -> None:
    wrong = {"status": "wrong", "error": 0.25}
    python = fake_python(
        tmp_path,
        HEAD,
        case("RMS norm"),
        case("int8 window"),
        case("codebook", **wrong),
        case("int8 window", **wrong),
        {"left_out": "sampling"},
    )
    made = run_check("quick", python=python)
    assert not made.ok
    assert made.problem == (
        "MLX 0.40.0 on Device(gpu, 0) computes wrongly: int8 window "
        "(bf16 int8 window: off by 2.5e-01 of the peak, 1e-02 allowed); "
        f"leave --kv-bits out, or try pip install mlx=={report.TESTED}, which was tested, and "
        "attach the file of `moshi-mlx doctor --report FILE` to an issue"
    )
    lines = [f"{one.mark} {one.label}" for one in made.findings()]
    assert lines == ["ok RMS norm", "bad int8 window", "bad codebook", "warn left out", "bad wrong"]


def test_what_mlx_refuses_is_wrong_and_says_why() -> None:
    def refuse() -> Any:
        raise ValueError("[quantize] no such group\nmore")

    outcome = judge(Case("embedding", "q4", 1e-2, refuse, known="never mind"))
    assert (outcome.status, outcome.problem) == ("wrong", "ValueError: [quantize] no such group")
    made = CheckReport("full", report.TESTED, "cpu", [vars(outcome)])
    assert (
        "computes wrongly: embedding (q4: ValueError: [quantize] no such group); try an older MLX" in made.problem
    )


def test_not_a_number_is_wrong() -> None:
    outcome = judge(Case("sum", "f32", 1e-2, lambda: (np.array([np.nan, 1.0]), np.array([0.0, 1.0]))))
    assert (outcome.status, outcome.error, outcome.problem) == ("wrong", None, "not a number, or infinite")
    json.dumps(vars(outcome), allow_nan=False)


def test_a_shape_that_differs_is_wrong() -> None:
    outcome = judge(Case("sum", "f32", 1e-2, lambda: (np.zeros((2, 1)), np.zeros(2))))
    assert (outcome.status, outcome.problem) == ("wrong", "ValueError: the result has shape [2, 1], [2] expected")


@pytest.mark.parametrize(
    ("after", "said"),
    [
        ("os.abort()", "the process was ended by signal 6 at window (32 heads)"),
        ("sys.exit('libmlx: cannot load')", "libmlx: cannot load at window (32 heads)"),
    ],
)
def test_where_mlx_ends_the_process_is_said(tmp_path: Path, after: str, said: str) -> None:
    python = fake_python(tmp_path, HEAD, case("RMS norm"), {"begin": "window", "detail": "32 heads"}, after=after)
    made = run_check("quick", python=python)
    assert not made.ok
    assert f"the check did not end, {said}; try" in made.problem


def test_a_check_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "HANGS", 0.02)
    python = fake_python(tmp_path, HEAD, after="import time; time.sleep(100)")
    assert "ended by signal 9" in run_check("quick", python=python).problem


def test_the_recorded_conversation_is_small_and_says_something() -> None:
    assert os.path.getsize(GOLDEN) < 20_000
    golden = Golden.read()
    assert golden.greedy.shape == (100, 9)
    assert len(set(golden.greedy[:, 0].tolist())) > 10, "it says nothing"
    assert 10 < (golden.greedy != golden.sampled).sum() < 450, "draws are others than the likeliest, but not any"


def test_what_there_was_no_time_for_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(report.SECONDS, "quick", 1e-6)
    monkeypatch.setattr(report, "HANGS", 1e8)
    made = run_check("quick")
    assert (made.ok, list(made.outcomes)) == (True, [])
    assert "Nano's steps" in made.left_out
    (said,) = made.findings()
    assert (said.mark, said.label) == ("warn", "left out")
    assert said.text.startswith(f"{len(made.left_out)} cases for want of time: RMS norm, layer norm, ")


def test_in_turn_or_one_after_the_other_the_cases_are_the_same() -> None:
    def names(some: Iterable[Case]) -> list[tuple[str, str]]:
        return [(one.operation, one.detail) for one in some]

    in_turn = names(fair(SMALL))
    assert sorted(in_turn) == sorted(names(cases(SMALL)))
    assert len({operation for operation, _ in in_turn[:4]}) == 4
    assert in_turn[-1][0] == "depth transformer"
