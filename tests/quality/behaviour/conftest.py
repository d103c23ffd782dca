"""Samples that the benchmark's own scripts have judged, and a detector for their voices."""

import json
from pathlib import Path
from typing import Any

import pytest

from moshi_mlx.quality.behaviour.voice import VoiceDetector
from tests.quality.behaviour.samples import make_samples


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a folder a task; see `samples`."""
    root = tmp_path_factory.mktemp("behaviour")
    make_samples(root)
    return root


@pytest.fixture(scope="session")
def golden() -> dict[str, Any]:
    """What the benchmark's scripts say of them; see `tests/make_behaviour_golden.py`."""
    return json.loads((Path(__file__).parents[2] / "data" / "behaviour.json").read_text())


@pytest.fixture(scope="session")
def detector() -> VoiceDetector:
    """Silero VAD."""
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (extra: eval)")
    return VoiceDetector()
