"""Someone who talks through microphone and speaker of a software sound card, and how to hear it again."""

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from moshi_mlx.audio import watchdog
from moshi_mlx.audio.duplex import Duplex
from moshi_mlx.frames import SAMPLE_RATE
from moshi_mlx.runtime.reply import Reply

PATIENCE = 60.0  # seconds; much more than anything here takes, for a machine that is busy
SOME = 0.3  # of the sound came through as it was: a busy machine interrupts it, but nothing comes by chance


class Recorder:
    """An echo canceller that cancels nothing and keeps what it gets."""

    def __init__(self) -> None:
        self.near: list[np.ndarray] = []
        self.far: list[np.ndarray] = []
        self.resets = 0

    def reset(self) -> None:
        self.resets += 1

    def process(self, near: np.ndarray, far: np.ndarray) -> np.ndarray:
        self.near.append(near)
        self.far.append(far)
        return near


class Talk:
    """Someone who repeats every frame, and what happens meanwhile."""

    def __init__(self) -> None:
        self.echo = Recorder()
        self.events: queue.Queue[watchdog.DeviceEvent] = queue.Queue()
        self.frames: queue.Queue[np.ndarray] = queue.Queue()
        self.duplex = Duplex("virtmic", "virtspk", self.echo, self.events.put)
        self.thread = threading.Thread(target=self._repeat, daemon=True)
        self.thread.start()

    def _repeat(self) -> None:
        for frame in self.duplex:
            self.duplex.write(Reply(frame, "", 0.0))
            self.frames.put(frame)

    def event(self) -> tuple[str, str]:
        event = self.events.get(timeout=PATIENCE)
        assert "\n" not in event.message
        return event.kind, "microphone" if "the microphone" in event.message else "speaker"

    def wait(self, frames: int) -> np.ndarray:
        """Wait for so many more frames from now on, (samples,)."""
        while not self.frames.empty():
            self.frames.get()
        return np.concatenate([self.frames.get(timeout=PATIENCE) for _ in range(frames)])


@contextmanager
def talk() -> Iterator[Talk]:
    """A talk that ends with nothing left of it, whatever happened to the devices."""
    talking = Talk()
    try:
        yield talking
    finally:
        talking.duplex.close()
        talking.thread.join(PATIENCE)
    assert not talking.thread.is_alive()
    talking.duplex._thread.join(PATIENCE)
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("moshi-")]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts to reopen a device follow each other sooner than in life."""
    monkeypatch.setattr(watchdog, "RETRY", 0.2)
    monkeypatch.setattr(watchdog, "RETRY_MOST", 0.2)


def voice(seconds: float, level: float = 0.1) -> np.ndarray:
    """Noise, (samples,) float32 at 24 kHz; up to 2 kHz, for the card may shift it by half a sample."""
    spectrum = np.fft.rfft(np.random.default_rng(0).standard_normal(round(seconds * SAMPLE_RATE)))
    spectrum[np.fft.rfftfreq(round(seconds * SAMPLE_RATE), 1 / SAMPLE_RATE) > 2_000] = 0
    pcm = np.fft.irfft(spectrum)
    return (level * pcm / pcm.std()).astype(np.float32)


def found(part: np.ndarray, whole: np.ndarray) -> tuple[float, int]:
    """The best correlation of `part` within `whole`, and at which sample."""
    size = 1 << (len(part) + len(whole)).bit_length()
    match = np.fft.irfft(np.fft.rfft(whole, size) * np.conj(np.fft.rfft(part, size)), size)
    at = int(np.argmax(match[: len(whole) - len(part)]))
    return float(np.corrcoef(part, whole[at : at + len(part)])[0, 1]), at


def clear_share(said: np.ndarray, heard: np.ndarray) -> float:
    """The share of 100 ms pieces that are heard as they were said."""
    pieces = np.split(said, range(2400, len(said) - 2399, 2400))
    return float(np.mean([found(piece, heard)[0] > 0.95 for piece in pieces]))
