"""The frame, the unit of time of the whole package: 80 ms of mono audio.

Source: Moshi paper §3.3; moshi/models/loaders.py (`SAMPLE_RATE`, `FRAME_RATE`).
"""

from collections.abc import Iterator

import numpy as np

from moshi_mlx.errors import SessionError

SAMPLE_RATE = 24_000  # Hz
FRAME_RATE = 12.5  # frames per second
FRAME_SAMPLES = int(SAMPLE_RATE / FRAME_RATE)  # 1920 samples
FRAME_SECONDS = FRAME_SAMPLES / SAMPLE_RATE  # 0.08 s
SILENCE_DB = -45.0  # dBFS; a frame below it holds no speech


def silence(frames: int = 1) -> np.ndarray:
    """Return silent audio, (frames * 1920,) float32."""
    return np.zeros(frames * FRAME_SAMPLES, dtype=np.float32)


def split_frames(pcm: np.ndarray) -> Iterator[np.ndarray]:
    """Cut audio into frames; the last one is filled up with silence.

    pcm: (samples,) float32 at 24 kHz, an array or what is read piece by piece as slices of it are asked for.
    Yields (1920,) float32, ceil(samples / 1920) of them. Raises SessionError as `checked_audio`, with a frame.
    """
    pcm = checked_audio(pcm) if isinstance(pcm, np.ndarray) else pcm
    for start in range(0, len(pcm), FRAME_SAMPLES):
        frame = checked_audio(pcm[start : start + FRAME_SAMPLES], start)
        if len(frame) < FRAME_SAMPLES:
            frame = np.pad(frame, (0, FRAME_SAMPLES - len(frame)))
        yield frame


def is_silent(pcm: np.ndarray) -> bool:
    """Return whether audio, (samples,) float32, is too quiet to hold speech."""
    return level(pcm) < SILENCE_DB


def level(pcm: np.ndarray) -> float:
    """Return the loudness of (samples,) float32 in dBFS (0: full-scale square wave); -120 for digital silence."""
    if not len(pcm):
        return -120.0
    return max(-120.0, 10 * float(np.log10(np.mean(np.square(pcm, dtype=np.float64)) + 1e-12)))


def checked_frame(frame: np.ndarray) -> np.ndarray:
    """Return a frame as (1920,) float32, from any floats. Raises SessionError for anything that is no frame."""
    frame = np.asarray(frame)
    if frame.shape != (FRAME_SAMPLES,) or not np.issubdtype(frame.dtype, np.floating):
        raise SessionError(f"a frame is ({FRAME_SAMPLES},) float32, got {frame.shape} {frame.dtype}")
    return _finite(frame, "a frame")


def checked_audio(pcm: np.ndarray, first: int = 0) -> np.ndarray:
    """Return audio as (samples,) float32, from any floats. first: the number of its first sample, for messages.

    Raises SessionError for anything else, NaN included.
    """
    pcm = np.asarray(pcm)
    if pcm.ndim != 1 or not np.issubdtype(pcm.dtype, np.floating):
        whole = "; divide whole numbers by their full scale" if np.issubdtype(pcm.dtype, np.integer) else ""
        raise SessionError(f"audio is (samples,) float32 in [-1, 1], got {pcm.shape} {pcm.dtype}{whole}")
    return _finite(pcm, "the audio", first)


def _finite(pcm: np.ndarray, what: str, first: int = 0) -> np.ndarray:
    with np.errstate(over="ignore"):  # it is infinite then, and refused
        pcm = pcm.astype(np.float32, copy=False)
    if not np.isfinite(pcm).all():  # one would deafen the model for its whole window
        at = int(np.isfinite(pcm).argmin())
        raise SessionError(f"sample {first + at} of {what} is {pcm[at]}")
    return pcm
