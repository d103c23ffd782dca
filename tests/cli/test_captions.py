"""Whether captions fit beside the model that talks."""

import io
from dataclasses import replace
from pathlib import Path

import pytest

from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.cli import captions
from moshi_mlx.cli.options import ModelOptions
from moshi_mlx.cli.screen import Screen
from moshi_mlx.errors import ConfigError
from moshi_mlx.machine import this_machine
from moshi_mlx.runtime.moshi import Moshi


@pytest.fixture
def said() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def screen(said: io.StringIO) -> Screen:
    return Screen(as_json=False, quiet=True, stream=said)


def beside(folder: Path, stt: Path, screen: Screen) -> object:
    return captions.captioner_beside(Checkpoint.find(folder), str(stt), ModelOptions(codec="mlx"), screen)


def test_what_does_not_fit_is_refused_before_it_is_loaded(
    tiny_moshi: Moshi, tiny_folder: Path, stt_folder: Path, screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside(tiny_folder, stt_folder, screen)
    small = replace(this_machine(), memory=2 << 30)
    monkeypatch.setattr(captions, "this_machine", lambda: small)
    with pytest.raises(ConfigError, match=r"together need 1\.8 GB, more than 70 % of the memory \(2\.1 GB\)"):
        beside(tiny_folder, stt_folder, screen)


def test_what_is_too_slow_is_said(
    tiny_moshi: Moshi,
    tiny_folder: Path,
    stt_folder: Path,
    screen: Screen,
    said: io.StringIO,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = replace(this_machine(), chip="Apple M1")
    monkeypatch.setattr(captions, "this_machine", lambda: machine)
    beside(tiny_folder, stt_folder, screen)
    assert said.getvalue() == "", "these are small"
    monkeypatch.setattr(captions, "FRAME_MS", 1.0)  # so short a frame that nothing keeps it
    beside(tiny_folder, stt_folder, screen)
    assert "may have too little time beside" in said.getvalue()


def test_a_model_that_speaks_makes_no_captions(tiny_moshi: Moshi, tiny_folder: Path, screen: Screen) -> None:
    with pytest.raises(ConfigError, match="not a speech-to-text model"):
        beside(tiny_folder, tiny_folder, screen)
