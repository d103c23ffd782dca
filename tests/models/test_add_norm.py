"""The kernel that adds and norms: its body on the CPU against the plain way, its trial, and who uses it."""

import ctypes
import shutil
import subprocess
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.models import add_norm
from moshi_mlx.models.add_norm import Trial, plain, tried
from moshi_mlx.models.config import TransformerConfig
from moshi_mlx.models.transformer import Transformer

BITS = {"float": (mx.float32, np.uint32), "bfloat": (mx.bfloat16, np.uint16)}


def compiled_body(folder: Path, kind: str, dim: int) -> ctypes.CDLL:
    """Compile the kernel's body as C++ between the stand-ins of a GPU's builtins."""
    compiler = shutil.which("c++") or shutil.which("g++")
    assert compiler, "MLX's CPU backend needs a C++ compiler, too"
    (folder / "body.h").write_text(add_norm.SOURCE)
    command = [compiler, "-std=c++17", "-O1", "-shared", "-fPIC", "-pthread", "-o", str(folder / "body.so")]
    sizes = [f"-DT={kind}", f"-DD={dim}", f"-DN={add_norm.threads_for(dim)}", f'-DBODY="{folder / "body.h"}"']
    subprocess.run([*command, *sizes, str(Path(__file__).parent / "shim.cpp")], check=True)
    return ctypes.CDLL(str(folder / "body.so"))


@pytest.mark.parametrize(("kind", "dim"), [("float", 100), ("bfloat", 320)])
def test_the_body_computes_what_the_plain_way_computes(tmp_path: Path, kind: str, dim: int) -> None:
    library = compiled_body(tmp_path, kind, dim)
    dtype, bits = BITS[kind]

    def body(x: mx.array, update: mx.array, weight: mx.array, eps: float) -> tuple[mx.array, mx.array]:
        given = [
            np.array(array.view(mx.uint32 if bits is np.uint32 else mx.uint16)) for array in (x, update, weight)
        ]
        made = [np.zeros_like(given[0]) for _ in range(2)]
        arrays = [*given, np.array([eps], np.float32), *made]
        library.run(len(given[0]), *(array.ctypes.data_as(ctypes.c_void_p) for array in arrays))
        added, normed = (mx.array(array).view(dtype) for array in made)
        return added, normed

    assert add_norm.difference(body, dim, dtype) == ""


def one_step_off(*arguments: mx.array) -> tuple[mx.array, mx.array]:
    added, normed = plain(*arguments)  # pyright: ignore[reportArgumentType]
    return added * 1.01, normed


def not_normed(*arguments: mx.array) -> tuple[mx.array, mx.array]:
    added, _ = plain(*arguments)  # pyright: ignore[reportArgumentType]
    return added, added


def broken(*_: object) -> tuple[mx.array, mx.array]:
    raise RuntimeError("[metal::Device] Unable to build metal library from source\nand more")


@pytest.mark.parametrize(
    ("candidate", "ours", "problem"),
    [
        (plain, 1.0, ""),
        (plain, 2.0, "it is no faster"),
        (one_step_off, 1.0, "its sums are others"),
        (not_normed, 1.0, "its norms are others"),
        (broken, 1.0, "it does not run: [metal::Device] Unable to build metal library from source"),
    ],
    ids=["good", "slow", "wrong sums", "wrong norms", "broken"],
)
def test_a_candidate_is_used_if_it_is_right_and_faster(candidate, ours: float, problem: str) -> None:
    times = iter([ours, 2.0])  # the candidate's, then the plain way's
    trial = tried(candidate, 64, mx.bfloat16, lambda *_: next(times))
    assert (trial.problem, trial.used) == (problem, not problem)
    assert ("used (" in str(trial)) == (not problem)


def test_both_ways_are_timed() -> None:
    assert add_norm.seconds_of(plain, 32, mx.float32) > 0


def test_no_kernel_is_tried_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(add_norm, "trials", {})
    add_norm.prepare(64, mx.float32)
    assert bool(add_norm.trials) == (mx.default_device() == mx.gpu and mx.metal.is_available())


CONFIG = TransformerConfig(dim=32, num_heads=2, num_layers=3, ffn_hidden=48, context=8, norm="rms_norm_f32")


def test_a_step_uses_the_kernel_and_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two norms of a stack everything is added by it; a chunk of many positions goes the plain way."""
    calls = []

    def counted(*arguments) -> tuple[mx.array, mx.array]:
        calls.append(arguments)
        return plain(*arguments)

    transformer = Transformer(CONFIG)
    x = mx.random.normal((2, 40, 32))

    def run() -> np.ndarray:
        transformer.forget_traces()
        state = transformer.new_state(2)
        return np.array(
            mx.concatenate([transformer(part, state) for part in mx.split(x, [1, 2, 4], axis=1)], axis=1)
        )

    expected = run()
    monkeypatch.setattr(add_norm, "trials", {(32, mx.float32): Trial(32, "float32")})
    monkeypatch.setattr(add_norm, "fused", counted)
    assert np.array_equal(run(), expected)
    sums = 2 * 3 - 1  # the last one of a stack is normed elsewhere
    assert len(calls) == 2 * sums, "once while single positions are traced, once for the chunk of two"


def test_training_goes_the_plain_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(add_norm, "trials", {(32, mx.float32): Trial(32, "float32")})
    monkeypatch.setattr(add_norm, "fused", broken)  # it has no gradient
    layer = Transformer(CONFIG).layers[0]
    slope = mx.grad(lambda x: layer.after_attention(x, mx.ones((2, 2, 1, 16))).sum())(mx.ones((2, 32)))
    assert mx.isfinite(slope).all()
