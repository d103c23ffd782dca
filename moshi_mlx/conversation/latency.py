"""A breakdown of the latency from mouth to ear, measured with clicks from the speaker to the microphone."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from moshi_mlx.frames import FRAME_SECONDS, SAMPLE_RATE, silence
from moshi_mlx.runtime.reply import Reply

if TYPE_CHECKING:
    from moshi_mlx.audio.duplex import Duplex
    from moshi_mlx.audio.echo.control import EchoCanceller
    from moshi_mlx.runtime.stats import Stats

CLICKS = 10
EVERY = 10  # frames from click to click: 0.8 s, longer than any way there and back
SETTLE = 15  # frames before the first click: the cushion before the speaker finds its size
CLICK_SECONDS = 0.02
LOUDNESS = 0.5  # peak
HEARD = 0.4  # correlation with the click; noise of a second reaches 0.3

Evidence = Literal["measured", "reported", "fixed", "left over"]


@dataclass(frozen=True)
class LatencyStage:
    """One part of the way from mouth to ear. source: how it is known."""

    name: str
    ms: float
    p95_ms: float | None
    source: Evidence


@dataclass(frozen=True)
class LatencyBreakdown:
    """All stages of the way from mouth to ear, in order. played, heard: clicks."""

    stages: list[LatencyStage]
    played: int
    heard: int

    @property
    def mouth_to_ear_ms(self) -> float:
        """The sum of all stages."""
        return round(_total(*self.stages), 1)

    def as_dict(self) -> dict[str, object]:
        """Everything, ready for JSON; programs know the stages as "rungs"."""
        return {
            "mouth_to_ear_ms": self.mouth_to_ear_ms,
            "played": self.played,
            "heard": self.heard,
            "rungs": [asdict(stage) for stage in self.stages],
        }


class LatencyProbe:
    """Source and sink of `engine.converse` that plays clicks in place of replies and finds them in what is heard.

    The n-th reply belongs to the n-th frame, so a click at its start reaches the ear as late as a word would.
    Found t samples after the n-th frame began, it took t samples: no clock is needed. Ends by itself.
    audio: its echo canceller is an `EchoBypass`, for another would remove the clicks.
    """

    def __init__(self, audio: Duplex, clicks: int = CLICKS) -> None:
        self.times: list[float] = []  # seconds, of every click that was heard
        self.played = 0
        self._audio, self._clicks = audio, clicks
        self._replies: deque[bool] = deque()  # for each frame that has no reply yet: whether that is a click
        self._waited: list[float] = []
        self._buffered: list[float] = []
        self._devices = (0.0, 0.0)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield frames as they come, (1920,) float32."""
        since: list[np.ndarray] = []  # frames since the last click
        dropped = 0
        before = self._audio.status().dropped
        for number, frame in enumerate(self._audio):
            position = (number - SETTLE) % EVERY if number >= SETTLE else -1
            if position == 0:
                since, dropped = [], before
                self.played += 1
            since.append(frame)
            self._replies.append(position == 0)
            yield frame
            if position == EVERY - 1:
                at = find_click(np.concatenate(since))
                # With a frame left out in between, what came later would seem to have come too early.
                if at is not None and self._audio.status().dropped == dropped:
                    self.times.append(at / SAMPLE_RATE)
                if self.played == self._clicks:
                    return
            before = self._audio.status().dropped

    def write(self, reply: Reply) -> None:
        """Play a click or silence in place of a reply."""
        audio = silence()
        if self._replies.popleft():
            audio[: len(CLICK)] = CLICK
        self._audio.write(Reply(audio, "", reply.time))
        status = self._audio.status()
        self._waited.append(status.waited)
        self._buffered.append(status.buffered)
        self._devices = status.devices

    def close(self) -> None:
        """End the measurement; from any thread."""
        self._audio.close()

    def breakdown(self, stats: Stats, echo: EchoBypass, model_frames: int) -> LatencyBreakdown:
        """Say where the time went. stats: of the run. model_frames: from hearing to speaking, within the model."""
        work = [
            measured("echo canceller", echo.times),
            *(measured(name, stage.recent) for name, stage in stats.stages.items()),
        ]
        between = _total(measured("", self._waited[SETTLE:])) - _total(*work)
        stages = [
            known("microphone, as the system says", self._devices[0], "reported"),
            known("a frame fills", FRAME_SECONDS),
            *work,
            known("waiting between these", between / 1000, "left over"),
            measured("cushion before the speaker", self._buffered[SETTLE:]),
            known("speaker, as the system says", self._devices[1], "reported"),
        ]
        if self.times:
            rest = _total(measured("", self.times)) - _total(*stages)
            stages.append(known("air and drivers, beyond what the system says", rest / 1000, "left over"))
        if echo.holds_back:
            stages.append(known("held back by the echo canceller", echo.holds_back))
        stages.append(known("Moshi's acoustic delay", model_frames * FRAME_SECONDS))
        return LatencyBreakdown(stages, self.played, len(self.times))


class EchoBypass:
    """An echo canceller that does its work and is timed, but is bypassed: it returns what the microphone heard."""

    def __init__(self, canceller: EchoCanceller, holds_back: float = 0.0) -> None:
        """holds_back: delay of the canceller, in seconds."""
        self.holds_back = holds_back
        self.times: deque[float] = deque(maxlen=4096)  # seconds a frame
        self._canceller = canceller

    def process(self, near: np.ndarray, far: np.ndarray) -> np.ndarray:
        """Run the canceller and return `near`. As `EchoCanceller.process`."""
        start = time.perf_counter()
        self._canceller.process(near, far)
        self.times.append(time.perf_counter() - start)
        return near

    def reset(self) -> None:
        """Reset the canceller."""
        self._canceller.reset()


def measured(name: str, seconds: Iterable[float]) -> LatencyStage:
    """A stage that takes the median of some times, 0 of none. seconds: of each frame."""
    median, p95 = np.percentile(list(seconds) or [0.0], [50, 95])
    return LatencyStage(name, _ms(median), _ms(p95), "measured")


def known(name: str, seconds: float, source: Evidence = "fixed") -> LatencyStage:
    """A stage of which the time is known otherwise."""
    return LatencyStage(name, _ms(seconds), None, source)


def make_click() -> np.ndarray:
    """A sweep from 6 kHz down to 600 Hz, (480,) float32: short, unlike any noise, and small speakers play it."""
    t = np.arange(round(CLICK_SECONDS * SAMPLE_RATE)) / SAMPLE_RATE
    high, low = 6_000.0, 600.0
    phase = 2 * np.pi * (high * t + (low - high) * t**2 / (2 * CLICK_SECONDS))
    return (LOUDNESS * np.hanning(len(t)) * np.sin(phase)).astype(np.float32)


CLICK = make_click()


def find_click(pcm: np.ndarray) -> int | None:
    """Where a click begins in (samples,) float32; None if there is none."""
    size = 1 << (len(pcm) + len(CLICK)).bit_length()
    match = np.fft.irfft(np.fft.rfft(pcm, size) * np.fft.rfft(CLICK, size).conj(), size)[: len(pcm) - len(CLICK)]
    power = np.cumsum(np.concatenate([[0.0], np.square(pcm, dtype=np.float64)]))
    around = power[len(CLICK) : -1] - power[: len(match)]  # of as many samples from each place on
    alike = match / np.sqrt((around + 1e-9) * float(CLICK @ CLICK))
    at = int(alike.argmax())
    return at if alike[at] > HEARD else None


def _ms(seconds: float) -> float:
    return round(1000 * float(seconds), 1)


def _total(*stages: LatencyStage) -> float:
    return sum(stage.ms for stage in stages)
