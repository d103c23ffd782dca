"""Fixtures that many tests share: small models made on the spot, the real parts otherwise."""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from moshi_mlx.frames import FRAME_SAMPLES
from moshi_mlx.runtime.moshi import Moshi, load
from tests.sound_card import sound_card, sound_cards

__all__ = ["sound_card", "sound_cards"]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A script that starts the tests in the background switches Ctrl-C off, and programs under test inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Nobody's own defaults: here no file holds any, until a test writes one.
os.environ["XDG_CONFIG_HOME"] = tempfile.mkdtemp(prefix="moshi-mlx-tests-")

# Property tests get the same hundred examples every time; `--hypothesis-profile fuzz` looks for new ones.
settings.register_profile("suite", max_examples=100, deadline=None, derandomize=True, database=None)
settings.register_profile("fuzz", max_examples=20_000, deadline=None, print_blob=True)
settings.load_profile("suite")

# What a test is given says what it needs; `slow`, and `serial` of others, are written at the test.
MARKED = {
    "sound_card": ("device", "serial"),
    "chromium": ("browser",),
    "rust_folder": ("slow",),  # a codec of 385 MB, and processes that load it
    "rust": ("slow",),
}


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by their fixtures and by the words they are parametrized with."""
    for item in items:
        given = {*getattr(item, "fixturenames", ())}
        if isinstance(item, pytest.Function) and hasattr(item, "callspec"):
            given |= {value for value in item.callspec.params.values() if isinstance(value, str)}
        for mark in (mark for name, marks in MARKED.items() if name in given for mark in marks):
            item.add_marker(mark)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with Moshi's streams and delays, everything else small and random."""
    from moshi_mlx.checkpoint.random_checkpoint import write_random_checkpoint

    return write_random_checkpoint(tmp_path_factory.mktemp("checkpoints") / "tiny")


@pytest.fixture(scope="session")
def tts_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text-to-speech checkpoint that takes vectors, small and random, with two voices in it: a and b."""
    from moshi_mlx.checkpoint.random_checkpoint import TINY_TTS, write_random_checkpoint
    from moshi_mlx.weights.safetensors import TensorInfo, write

    folder = write_random_checkpoint(tmp_path_factory.mktemp("checkpoints") / "tts", TINY_TTS)
    for seed, name in enumerate("ab"):
        vectors = np.random.RandomState(seed).standard_normal((1, 32, 5)).astype(np.float32)
        write(folder / f"{name}.safetensors", {"speaker_wavs": TensorInfo("F32", vectors.shape)}, [vectors])
    return folder


@pytest.fixture(scope="session")
def prefix_tts_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text-to-speech checkpoint that goes on from a recording, small and random."""
    from moshi_mlx.checkpoint.random_checkpoint import TINY_PREFIX_TTS, write_random_checkpoint

    return write_random_checkpoint(tmp_path_factory.mktemp("checkpoints") / "prefix-tts", TINY_PREFIX_TTS)


@pytest.fixture(scope="session")
def hibiki_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with Hibiki's streams, delays and conditioner, everything else small and random."""
    from moshi_mlx.checkpoint.random_checkpoint import TINY_HIBIKI, write_random_checkpoint

    return write_random_checkpoint(tmp_path_factory.mktemp("checkpoints") / "hibiki", TINY_HIBIKI)


@pytest.fixture(scope="session")
def tiny_q4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as Kyutai publishes q4."""
    from moshi_mlx.checkpoint.random_checkpoint import write_random_checkpoint

    return write_random_checkpoint(tmp_path_factory.mktemp("checkpoints") / "q4", layout="mlx", scheme="q4")


@pytest.fixture(scope="session")
def stt_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a speech-to-text model, small and random."""
    from moshi_mlx.checkpoint.random_checkpoint import TINY_STT, write_random_checkpoint

    return write_random_checkpoint(tmp_path_factory.mktemp("checkpoints") / "stt", TINY_STT)


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    """A copy of the tiny checkpoint that may be spoilt."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "model"))


@pytest.fixture(scope="session")
def tiny_moshi(tiny_folder: Path) -> Moshi:
    """The tiny checkpoint, loaded."""
    return load(str(tiny_folder), codec="mlx")


@pytest.fixture(scope="session")
def noise_frames() -> np.ndarray:
    """(60, 1920) float32: audio that is different in every frame."""
    return (0.1 * np.random.RandomState(0).standard_normal((60, FRAME_SAMPLES))).astype(np.float32)


@pytest.fixture(scope="session")
def rust_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A small checkpoint with a Mimi of the published shape (385 MB, random), which rustymimi can load.

    A process of it may take a minute for a frame: rustymimi computes on every core, and these may be busy.
    """
    from moshi_mlx.checkpoint.random_checkpoint import TINY, write_random_checkpoint
    from moshi_mlx.codec import rust_process

    with pytest.MonkeyPatch.context() as patient:
        patient.setattr(rust_process, "HANG_SECONDS", 60.0)
        yield write_random_checkpoint(
            tmp_path_factory.mktemp("checkpoints") / "rust", {**TINY, "card": 2048}, None
        )


@pytest.fixture(scope="session")
def full_mimi_file(rust_folder: Path) -> Path:
    """A Mimi file of the published shape, random weights."""
    return rust_folder / "mimi.safetensors"


@pytest.fixture(scope="session")
def rust_moshi(rust_folder: Path) -> Moshi:
    """The small checkpoint whose codec runs in Rust."""
    pytest.importorskip("rustymimi", reason="rustymimi has no wheel for this Python")
    return load(str(rust_folder), codec="rust")
